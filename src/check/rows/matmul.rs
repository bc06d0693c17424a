//! Rows of the matrix product: every variant in three forms, every epilogue, every edge of a
//! tile, splits of k, and operands that take several textures.

use super::{Table, added};
use crate::check::Case;
use crate::gpu::{AdapterClass, Elements, Kernel, Tensor};
use crate::kernels::family::unmet;
use crate::kernels::matmul::{self, Epilogue, Form, Product, TEXTURE_SIDE, Use, Variant};
use crate::reference::matmul as reference;

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
pub(super) fn kernel_of(
    variant: Variant,
    operands: Elements,
    m: usize,
    k: usize,
) -> &'static Kernel {
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
pub(super) fn takes_lines_alone(variant: Variant) -> bool {
    matches!(
        variant,
        Variant::Row | Variant::Few | Variant::FewF16 | Variant::FewTexture
    )
}

/// The class of adapters that a variant is meant for.
pub(super) fn class_of(variant: Variant) -> AdapterClass {
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

pub(super) fn expect(case: &mut Case, name: &'static str, tensor: Tensor, want: Vec<f64>) {
    if tensor.is_halves() {
        case.expect_halves(name, tensor, want);
    } else {
        case.expect(name, tensor, want);
    }
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
