//! Rows of the matrix product: every variant in three forms, every epilogue, every edge of a
//! tile, splits of k, and operands that take several textures.

use super::{Table, added, side_by_side};
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

/// `(m, n, k)`: one row and several, around the groups of columns, lines around what all lanes take at once,
/// and more of them than a texture has rows.
const FEW: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (1, 7, 3),
    (1, 9, 32),
    (1, 66, 257),
    (2, 4, 36),
    (4, 8, 256),
    (5, 13, 33),
    (8, 33, 520),
    (9, 31, 100),
    (1, 8197, 8),
    (3, 8197, 5),
];

pub(super) fn rows(table: &mut Table) {
    stage_rows(table);
    rotated_rows(table);
    gated_rows(table);
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
    for sizes in FEW {
        for variant in [Variant::Few, Variant::FewF16, Variant::FewTexture] {
            product_rows(table, sizes, variant);
        }
        if kernel_of(Variant::FewTexture, Elements::Halves, sizes.0, sizes.2).variant
            != "few_texture"
        {
            product_rows_of(table, sizes, Variant::FewTexture, Elements::Halves);
        }
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

/// The kernel that a variant computes a product of `m` rows and depth `k` with.
fn kernel_of(variant: Variant, operands: Elements, m: usize, k: usize) -> &'static Kernel {
    match (variant, operands) {
        (Variant::FewTexture, Elements::Words) if m == 1 && k.is_multiple_of(4) => {
            &matmul::ROW_TEXTURE
        }
        (Variant::FewTexture, Elements::Halves) if m == 1 && k.is_multiple_of(4) => {
            &matmul::ROW_TEXTURE_F16
        }
        _ => variant.kernel(),
    }
}

/// Whether a variant is for the form `Nt` alone.
fn takes_lines_alone(variant: Variant) -> bool {
    matches!(
        variant,
        Variant::Row | Variant::Few | Variant::FewF16 | Variant::FewTexture
    )
}

/// The class of adapters that a variant is meant for.
fn class_of(variant: Variant) -> AdapterClass {
    match variant {
        Variant::Texture { .. }
        | Variant::TextureSubgroup { .. }
        | Variant::Row
        | Variant::FewTexture => AdapterClass::Software,
        _ => AdapterClass::Gpu,
    }
}

fn product_rows(table: &mut Table, sizes: (usize, usize, usize), variant: Variant) {
    product_rows_of(table, sizes, variant, variant.operands());
}

fn product_rows_of(
    table: &mut Table,
    (m, n, k): (usize, usize, usize),
    variant: Variant,
    operands: Elements,
) {
    let class = class_of(variant);
    let kernel = kernel_of(variant, operands, m, k);
    let side = match variant {
        Variant::Texture { side } | Variant::TextureSubgroup { side } => side,
        _ => TEXTURE_SIDE,
    };
    let blocks = if side == TEXTURE_SIDE {
        String::new()
    } else {
        format!(" side {side}")
    };
    let forms: &[Form] = if takes_lines_alone(variant) {
        &[Form::Nt]
    } else {
        &[Form::Nn, Form::Nt, Form::Tn]
    };
    for &form in forms {
        for &epilogue in epilogues(variant, form) {
            let shape = format!("{m}x{n}x{k} {form:?} {epilogue}{blocks}");
            table.add_for(class, kernel, shape, move |case| {
                build(case, (variant, operands), (m, n, k), form, epilogue);
            });
            // Epilogues that have needs of their own have rows below.
            let used = Use {
                form,
                sizes: [m, n, k],
                operands,
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
        return &["store", "accumulate", "residual"];
    }
    match (form, variant.is_of_halves()) {
        (Form::Nn, false) | (Form::Tn, _) => &["store", "accumulate"],
        (Form::Nn, true) => &["store", "accumulate", "store halves"],
        (Form::Nt, false) => &["store", "residual"],
        (Form::Nt, true) => &["store", "residual", "store halves"],
    }
}

fn build(
    case: &mut Case,
    (variant, operands): (Variant, Elements),
    (m, n, k): (usize, usize, usize),
    form: Form,
    epilogue: &str,
) {
    let (a_rows, a_cols) = if form == Form::Tn { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if form == Form::Nt { (n, k) } else { (k, n) };
    let a = case.random_of(operands, a_rows, a_cols, 1.0);
    let b = case.random_of(operands, b_rows, b_cols, 1.0);
    // What products of halves read is of halves, and what sums are added to is not.
    let beside = match epilogue {
        "store halves" => operands,
        _ => Elements::Words,
    };
    let output = case.random_of(beside, m, n, 1.0);
    let residual = case.random_of(beside, m, n, 1.0);
    let shape = reference::MatmulShape { m, n, k };
    let product = match form {
        Form::Nn => reference::nn(&a.values, &b.values, shape),
        Form::Nt => reference::nt(&a.values, &b.values, shape),
        Form::Tn => reference::tn(&a.values, &b.values, shape),
    };
    let (how, want) = match epilogue {
        "accumulate" => (Epilogue::Accumulate, added(&output.values, product)),
        "residual" => (
            Epilogue::Residual(residual.tensor),
            added(&residual.values, product),
        ),
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
}

fn expect(case: &mut Case, name: &'static str, tensor: Tensor, want: Vec<f64>) {
    if tensor.is_halves() {
        case.expect_halves(name, tensor, want);
    } else {
        case.expect(name, tensor, want);
    }
}

/// Rows, columns of a gate, and depth: around the tiles, of which a gate and its up take half each, and
/// widths that no lane can pair.
const GATED: [(usize, usize, usize); 9] = [
    (1, 4, 1),
    (1, 22, 36),
    (33, 6, 9),
    (31, 5, 6),
    (63, 64, 17),
    (65, 60, 15),
    (70, 72, 64),
    (130, 130, 20),
    (40, 24, 100),
];

/// The products that meet a gated unit: forward `x [w1; w3]^T`, and backward `d_y w2`.
fn gated_rows(table: &mut Table) {
    for variant in TAKE_EPILOGUES {
        for (rows, d_ff, depth) in GATED {
            // Halves of a gate and of its up begin at whole loads.
            if variant.is_of_halves() && d_ff % 8 != 0 {
                continue;
            }
            let class = class_of(variant);
            let kernel = kernel_of(variant, variant.operands(), rows, depth);
            let shape = format!("{rows}x{d_ff}x{depth}");
            table.add_for(class, kernel, format!("{shape} Nt gate"), move |case| {
                gate(case, variant, (rows, d_ff, depth));
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let hidden = plan.scratch("hidden", rows, d_ff);
                let up_first = d_ff;
                let epilogue = Epilogue::Gate { hidden, up_first };
                (Form::Nt, [rows, 2 * d_ff, depth], epilogue)
            }));
            if takes_lines_alone(variant) {
                continue;
            }
            let backward = format!("{shape} Nn gate backward");
            table.add_for(class, kernel, backward, move |case| {
                gate_backward(case, variant, (rows, d_ff, depth));
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let gate_up = plan.scratch("gate_up", rows, 2 * d_ff);
                let up_first = d_ff;
                let epilogue = Epilogue::GateBackward { gate_up, up_first };
                (Form::Nn, [rows, d_ff, depth], epilogue)
            }));
        }
    }
}

fn gate(case: &mut Case, variant: Variant, (rows, d_ff, depth): (usize, usize, usize)) {
    let operands = variant.operands();
    let a = case.random_of(operands, rows, depth, 1.0);
    let b = case.random_of(operands, 2 * d_ff, depth, 1.0);
    let output = case.plan.scratch_of(operands, "output", rows, 2 * d_ff);
    let hidden = case.plan.scratch_of(operands, "hidden", rows, d_ff);
    let product = Product {
        form: Form::Nt,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::Gate {
            hidden,
            up_first: d_ff,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let (w1, w3) = b.values.split_at(d_ff * depth);
    let shape = reference::MatmulShape {
        m: rows,
        n: d_ff,
        k: depth,
    };
    let [gate, up] = [w1, w3].map(|weight| reference::nt(&a.values, weight, shape));
    expect(case, "hidden", hidden, swiglu::forward(&gate, &up));
    let both = side_by_side(rows, &[&gate, &up]);
    expect(case, "gate and up", output, both);
}

fn gate_backward(case: &mut Case, variant: Variant, (rows, d_ff, depth): (usize, usize, usize)) {
    let operands = variant.operands();
    let a = case.random_of(operands, rows, depth, 1.0);
    let b = case.random_of(operands, depth, d_ff, 1.0);
    let gate_up = case.random_of(operands, rows, 2 * d_ff, 1.0);
    let output = case.plan.scratch_of(operands, "output", rows, 2 * d_ff);
    let product = Product {
        form: Form::Nn,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::GateBackward {
            gate_up: gate_up.tensor,
            up_first: d_ff,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let shape = reference::MatmulShape {
        m: rows,
        n: d_ff,
        k: depth,
    };
    let d_hidden = reference::nn(&a.values, &b.values, shape);
    let columns = |first: usize| -> Vec<f64> {
        let halves = gate_up.values.chunks(d_ff).skip(first);
        halves.step_by(2).flatten().copied().collect()
    };
    let (d_gate, d_up) = swiglu::backward(&columns(0), &columns(1), &d_hidden);
    let want = side_by_side(rows, &[&d_gate, &d_up]);
    expect(case, "gradients", output, want);
}

/// What a variant needs of a product and does not get.
fn unmet_by(
    variant: Variant,
    product: impl FnOnce(&mut Plan) -> (Form, [usize; 3], Epilogue),
) -> Option<&'static str> {
    let mut plan = Plan::new(Target::portable(AdapterClass::Software));
    let (form, sizes, epilogue) = product(&mut plan);
    let used = Use {
        form,
        sizes,
        operands: variant.operands(),
        in_quads: epilogue.output_cols(sizes[1]).is_multiple_of(4),
        epilogue,
    };
    unmet(&used, variant.into())
}

/// The variants that turn heads and meet gates.
const TAKE_EPILOGUES: [Variant; 14] = [
    Variant::Tiled,
    Variant::TiledQuads,
    Variant::TiledSmall,
    Variant::TiledF16,
    Variant::TiledQuadsF16,
    Variant::Cooperative,
    Variant::CooperativeSmall,
    Variant::Cooperative8x8,
    Variant::CooperativeSmall8x8,
    Variant::Texture { side: TEXTURE_SIDE },
    Variant::TextureSubgroup { side: TEXTURE_SIDE },
    Variant::Few,
    Variant::FewF16,
    Variant::FewTexture,
];

/// Products of heads of even widths, whole quads or not, over sequences that end within a tile.
fn rotated_rows(table: &mut Table) {
    for variant in TAKE_EPILOGUES {
        for (batch, time, num_heads, head_dim) in
            [(1, 1, 1, 2), (2, 5, 3, 6), (3, 33, 2, 8), (2, 7, 9, 16)]
        {
            let shape = format!("batch {batch}, time {time}, heads {num_heads}x{head_dim} rotated");
            let kernel = kernel_of(variant, variant.operands(), batch * time, 20);
            table.add_for(class_of(variant), kernel, shape, move |case| {
                let shape = RopeShape {
                    time,
                    num_heads,
                    head_dim,
                    theta: 100.0,
                };
                rotated(case, variant, batch, shape);
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let table = RopeTable {
                    angles: plan.scratch("angles", time, head_dim),
                };
                let cols = num_heads * head_dim;
                let epilogue = Epilogue::Rotate {
                    table,
                    head_dim,
                    cols,
                };
                (Form::Nt, [batch * time, cols + head_dim, 20], epilogue)
            }));
        }
    }
}

/// The heads of `shape`, and behind them one that stays as it is.
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
    let b = case.random_of(operands, cols + head_dim, 20, 1.0);
    let output = case
        .plan
        .scratch_of(operands, "output", rows, cols + head_dim);
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
        epilogue: Epilogue::Rotate {
            table,
            head_dim,
            cols,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let (turned, other) = b.values.split_at(cols * 20);
    let product = |weight: &[f64], n| {
        let sizes = reference::MatmulShape { m: rows, n, k: 20 };
        reference::nt(&a.values, weight, sizes)
    };
    let turned = rope_reference::forward(&product(turned, cols), shape);
    let want = side_by_side(rows, &[&turned, &product(other, head_dim)]);
    expect(case, "output", output, want);
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
