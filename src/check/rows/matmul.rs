//! Rows of the matrix product: every variant in three forms, every epilogue, every edge of a
//! tile, splits of k, and operands that take several textures.

use super::{Table, added};
use crate::check::Case;
use crate::gpu::{AdapterClass, Elements, Kernel, Plan, Target, Tensor, Window};
use crate::kernels::family::unmet;
use crate::kernels::matmul::{self, Epilogue, Form, Product, TEXTURE_SIDE, Use, Variant};
use crate::kernels::matmul_stage::{self, COLS_MULTIPLE, ROWS_MULTIPLE};
use crate::kernels::rope::{self, RopeTable};
use crate::reference::rope::{self as rope_reference, RopeShape};
use crate::reference::{matmul as reference, matmul_stage as stage_reference, swiglu};

/// `(m, n, k)`: size one, around the tiles of 32, 64 and 128 and the slices of 8 and 16, one row as
/// in decoding, texture rows with padding behind them, and depths that are split. Rows of whole quads
/// and others, in each of these.
const SHAPES: [(usize, usize, usize); 17] = [
    (1, 1, 1),
    (63, 65, 17),
    (64, 64, 16),
    (65, 63, 15),
    (1, 130, 64),
    (130, 1, 33),
    (31, 33, 6),
    (512, 3, 5),
    (40, 24, 100),
    (33, 70, 512),
    (10, 12, 1031),
    (12, 8, 1036),
    (128, 128, 8),
    (128, 128, 12),
    (128, 128, 21),
    (132, 124, 28),
    (127, 129, 23),
];

/// `(m, n, k)` and the longest side of a texture: blocks along each axis alone, along all of them,
/// and in a k that is split as well, with one or several splits in a block.
const BLOCKED: [((usize, usize, usize), usize); 6] = [
    ((65, 7, 9), 16),
    ((7, 65, 9), 16),
    ((7, 9, 33), 16),
    ((70, 130, 35), 16),
    ((10, 12, 1031), 128),
    ((10, 12, 1031), 520),
];

pub(super) fn rows(table: &mut Table) {
    stage_rows(table);
    rotated_rows(table);
    for sizes in SHAPES {
        product_rows(table, sizes, Variant::Tiled);
        product_rows(table, sizes, Variant::TiledQuads);
        product_rows(table, sizes, Variant::TiledSmall);
        product_rows(table, sizes, Variant::TiledF16);
        product_rows(table, sizes, Variant::TiledQuadsF16);
        product_rows(table, sizes, Variant::Cooperative);
        product_rows(table, sizes, Variant::CooperativeSmall);
        product_rows(table, sizes, Variant::Cooperative8x8);
        product_rows(table, sizes, Variant::CooperativeSmall8x8);
        product_rows(table, sizes, Variant::Texture { side: TEXTURE_SIDE });
        product_rows(
            table,
            sizes,
            Variant::TextureSubgroup { side: TEXTURE_SIDE },
        );
    }
    for (n, k) in [(1, 1), (7, 3), (63, 33), (65, 64), (130, 1031)] {
        product_rows(table, (1, n, k), Variant::Row);
    }
    for (sizes, side) in BLOCKED {
        product_rows(table, sizes, Variant::Texture { side });
        product_rows(table, sizes, Variant::TextureSubgroup { side });
    }
    table.add_for(
        AdapterClass::Software,
        &matmul::TEXTURE,
        "operand written in between",
        restaged,
    );
}

/// The class of adapters that a variant is meant for.
fn class_of(variant: Variant) -> AdapterClass {
    match variant {
        Variant::Texture { .. } | Variant::TextureSubgroup { .. } | Variant::Row => {
            AdapterClass::Software
        }
        _ => AdapterClass::Gpu,
    }
}

fn product_rows(table: &mut Table, (m, n, k): (usize, usize, usize), variant: Variant) {
    let (class, kernel) = (class_of(variant), variant.kernel());
    let side = match variant {
        Variant::Texture { side } | Variant::TextureSubgroup { side } => side,
        _ => TEXTURE_SIDE,
    };
    let blocks = if side == TEXTURE_SIDE {
        String::new()
    } else {
        format!(" side {side}")
    };
    let forms: &[Form] = if variant == Variant::Row {
        &[Form::Nt]
    } else {
        &[Form::Nn, Form::Nt, Form::Tn]
    };
    for &form in forms {
        // Blocks of k are added up, for which the gate's epilogues are no sums.
        let in_blocks = side < k;
        let sums_alone = |epilogue: &&str| !(in_blocks && epilogue.starts_with("gate"));
        for epilogue in epilogues(variant, form).iter().copied().filter(sums_alone) {
            let shape = format!("{m}x{n}x{k} {form:?} {epilogue}{blocks}");
            table.add_for(class, kernel, shape, move |case| {
                build(case, variant, (m, n, k), form, epilogue);
            });
            // Epilogues that have needs of their own have rows below.
            let used = Use {
                form,
                sizes: [m, n, k],
                operands: variant.operands(),
                in_quads: n.is_multiple_of(4),
                epilogue: Epilogue::Store,
            };
            table.last_cannot_run(unmet(&used, variant.into()));
        }
    }
}

/// The epilogues that a variant is checked with: all of them where they share a pipeline or nearly so, and
/// where each is one of its own, which takes SwiftShader a second to compile, those that layers use.
fn epilogues(variant: Variant, form: Form) -> &'static [&'static str] {
    if class_of(variant) == AdapterClass::Software {
        return &["store", "accumulate", "residual", "gate", "gate backward"];
    }
    match (form, variant.is_of_halves()) {
        (Form::Nn, false) => &["store", "accumulate", "gate backward"],
        (Form::Nn, true) => &["store", "accumulate", "store halves", "gate backward"],
        (Form::Nt, false) => &["store", "residual", "gate"],
        (Form::Nt, true) => &["store", "residual", "store halves", "gate"],
        (Form::Tn, _) => &["store", "accumulate"],
    }
}

fn build(
    case: &mut Case,
    variant: Variant,
    (m, n, k): (usize, usize, usize),
    form: Form,
    epilogue: &str,
) {
    let (a_rows, a_cols) = if form == Form::Tn { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if form == Form::Nt { (n, k) } else { (k, n) };
    let operands = variant.operands();
    let a = case.random_of(operands, a_rows, a_cols, 1.0);
    let b = case.random_of(operands, b_rows, b_cols, 1.0);
    // What products of halves read is of halves, and what sums are added to is not.
    let beside = if epilogue.contains("gate") || epilogue == "store halves" {
        operands
    } else {
        Elements::Words
    };
    let output = case.random_of(beside, m, n, 1.0);
    let residual = case.random_of(beside, m, n, 1.0);
    let like_output = |case: &mut Case, name| case.plan.scratch_like(name, output.tensor);
    let shape = reference::MatmulShape { m, n, k };
    let product = match form {
        Form::Nn => reference::nn(&a.values, &b.values, shape),
        Form::Nt => reference::nt(&a.values, &b.values, shape),
        Form::Tn => reference::tn(&a.values, &b.values, shape),
    };
    let mut also = None;
    let (how, want) = match epilogue {
        "accumulate" => (Epilogue::Accumulate, added(&output.values, product)),
        "residual" => (
            Epilogue::Residual(residual.tensor),
            added(&residual.values, product),
        ),
        "gate" => {
            let hidden = like_output(case, "hidden");
            let want = swiglu::forward(&residual.values, &product);
            also = Some(("hidden", hidden, want));
            let gate = residual.tensor;
            (Epilogue::Gate { gate, hidden }, product)
        }
        "gate backward" => {
            let up = case.random_of(beside, m, n, 1.0);
            let d_up = like_output(case, "d_up");
            let (want, want_up) = swiglu::backward(&residual.values, &up.values, &product);
            also = Some(("d_up", d_up, want_up));
            let (gate, up) = (residual.tensor, up.tensor);
            (Epilogue::GateBackward { gate, up, d_up }, want)
        }
        _ => (Epilogue::Store, product),
    };
    let product = Product {
        form,
        a: a.tensor,
        b: b.tensor,
        output: output.tensor,
        epilogue: how,
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    expect(case, "output", output.tensor, want);
    if let Some((name, tensor, want)) = also {
        expect(case, name, tensor, want);
    }
}

fn expect(case: &mut Case, name: &'static str, tensor: Tensor, want: Vec<f64>) {
    if tensor.is_halves() {
        case.expect_halves(name, tensor, want);
    } else {
        case.expect(name, tensor, want);
    }
}

/// Products of heads of even widths, whole quads or not, over sequences that end within a tile.
fn rotated_rows(table: &mut Table) {
    let side = TEXTURE_SIDE;
    for variant in [
        Variant::Tiled,
        Variant::TiledQuads,
        Variant::TiledSmall,
        Variant::TiledF16,
        Variant::TiledQuadsF16,
        Variant::Cooperative,
        Variant::CooperativeSmall,
        Variant::Cooperative8x8,
        Variant::CooperativeSmall8x8,
        Variant::Texture { side },
        Variant::TextureSubgroup { side },
    ] {
        for (batch, time, num_heads, head_dim) in
            [(1, 1, 1, 2), (2, 5, 3, 6), (3, 33, 2, 8), (2, 7, 9, 16)]
        {
            let shape = format!("batch {batch}, time {time}, heads {num_heads}x{head_dim} rotated");
            table.add_for(class_of(variant), variant.kernel(), shape, move |case| {
                let shape = RopeShape {
                    time,
                    num_heads,
                    head_dim,
                    theta: 100.0,
                };
                rotated(case, variant, batch, shape);
            });
            table.last_cannot_run(unmet_rotated(variant, batch, time, num_heads, head_dim));
        }
    }
}

/// What the variant needs of such a row and does not get.
fn unmet_rotated(
    variant: Variant,
    batch: usize,
    time: usize,
    num_heads: usize,
    head_dim: usize,
) -> Option<&'static str> {
    let mut plan = Plan::new(Target::portable(AdapterClass::Software));
    let table = RopeTable {
        angles: plan.scratch("angles", time, head_dim),
    };
    let n = num_heads * head_dim;
    let used = Use {
        form: Form::Nt,
        sizes: [batch * time, n, 20],
        operands: variant.operands(),
        in_quads: n.is_multiple_of(4),
        epilogue: Epilogue::Rotate { table, head_dim },
    };
    unmet(&used, variant.into())
}

fn rotated(case: &mut Case, variant: Variant, batch: usize, shape: RopeShape) {
    let RopeShape {
        time,
        num_heads,
        head_dim,
        theta,
    } = shape;
    let (rows, cols) = (batch * time, num_heads * head_dim);
    let operands = variant.operands();
    let a = case.random_of(operands, rows, 20, 1.0);
    let b = case.random_of(operands, cols, 20, 1.0);
    let output = match operands {
        Elements::Words => case.plan.scratch("output", rows, cols),
        Elements::Halves => case.plan.scratch_halves("output", rows, cols),
    };
    let angles = rope::angles(time, head_dim, theta);
    let angles = angles.into_iter().map(f64::from).collect();
    let table = RopeTable {
        angles: case.floats(time, head_dim, angles).tensor,
    };
    let product = Product {
        form: Form::Nt,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::Rotate { table, head_dim },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let sizes = reference::MatmulShape {
        m: rows,
        n: cols,
        k: 20,
    };
    let want = reference::nt(&a.values, &b.values, sizes);
    expect(
        case,
        "output",
        output,
        rope_reference::forward(&want, shape),
    );
}

/// `c = a b`, then `a += d`, then `e = a b`: the second product must not read the first one's copy.
fn restaged(case: &mut Case) {
    let shape = reference::MatmulShape { m: 9, n: 9, k: 9 };
    let [a, b, d] = [(); 3].map(|()| case.random(9, 9, 1.0));
    let [c, e] = [(); 2].map(|()| case.plan.scratch("product", 9, 9));
    let mut product = |a: Tensor, b: Tensor, output, how| {
        matmul::matmul(&mut case.plan, Form::Nn, a, b, output, how);
    };
    product(a.tensor, b.tensor, c, Epilogue::Store);
    product(d.tensor, b.tensor, a.tensor, Epilogue::Accumulate);
    product(a.tensor, b.tensor, e, Epilogue::Store);
    case.expect("c", c, reference::nn(&a.values, &b.values, shape));
    let after = added(&a.values, reference::nn(&d.values, &b.values, shape));
    case.expect("e", e, reference::nn(&after, &b.values, shape));
}

/// Rows and columns of a matrix, and the first row and column of a window in it or in its transpose.
const STAGED_WINDOWS: [(usize, usize, usize, usize); 8] = [
    (1, 1, 0, 0),
    (7, 63, 0, 0),
    (9, 65, 0, 0),
    (70, 130, 3, 5),
    (1, 4, 0, 0),
    (33, 64, 0, 3),
    (72, 136, 4, 9),
    (70, 132, 2, 1),
];

fn stage_rows(table: &mut Table) {
    for (rows, cols, first_row, first_col) in STAGED_WINDOWS {
        for transposed in [false, true] {
            let quads = transposed && cols % 4 == 0 && first_row % 4 == 0;
            let kernel = if quads {
                &matmul_stage::STAGE_TRANSPOSED
            } else {
                &matmul_stage::STAGE
            };
            staged_row(
                table,
                kernel,
                (rows, cols),
                (first_row, first_col),
                transposed,
            );
        }
    }
}

/// A matrix of `[rows, cols]`, and a window in it or in its transpose that begins at `first`.
pub(super) fn staged_row(
    table: &mut Table,
    kernel: &'static Kernel,
    (rows, cols): (usize, usize),
    (first_row, first_col): (usize, usize),
    transposed: bool,
) {
    let shape = format!("{rows}x{cols} from {first_row}, {first_col}, transposed {transposed}");
    let (all_rows, all_cols) = if transposed {
        (cols, rows)
    } else {
        (rows, cols)
    };
    let operands = kernel.bindings[0].elements.unwrap_or(Elements::Words);
    table.add_once(kernel, shape, move |case| {
        let input = case.random_of(operands, rows, cols, 1.0);
        let window = Window {
            tensor: input.tensor,
            transposed,
            first_row,
            rows: all_rows - 2 * first_row,
            first_col,
            cols: all_cols - 2 * first_col,
        };
        let staged = matmul_stage::stage(&mut case.plan, window);
        let part = (
            first_row..all_rows - first_row,
            first_col..all_cols - first_col,
        );
        let padded = (
            part.0.len().next_multiple_of(ROWS_MULTIPLE),
            part.1.len().next_multiple_of(COLS_MULTIPLE),
        );
        let want = stage_reference::stage(&input.values, cols, transposed, part, padded);
        case.expect_texture("staged", staged, want);
    });
}
