//! Rows of the matrix product, and of its operands' copies.

use super::{D_FF, D_MODEL, ROWS, Row, Table, VOCAB};
use crate::check::Case;
use crate::gpu::{Elements, Window};
use crate::kernels::family::unmet;
use crate::kernels::matmul::{self, Epilogue, Form, Product, TEXTURE_SIDE, Use, Variant};
use crate::kernels::matmul_stage;
use crate::reference;

pub(super) fn rows(table: &mut Table) {
    const SHAPES: [(Form, usize, usize, usize); 27] = [
        (Form::Nn, 64, 64, 64),
        (Form::Nn, 512, 512, 512),
        (Form::Nn, 1024, 1024, 1024),
        (Form::Nt, ROWS, D_MODEL, D_MODEL),
        (Form::Nt, ROWS, D_FF, D_MODEL),
        (Form::Nt, ROWS, D_MODEL, D_FF),
        (Form::Nt, ROWS, VOCAB, D_MODEL),
        (Form::Nn, ROWS, D_MODEL, D_FF),
        (Form::Nn, ROWS, D_MODEL, VOCAB),
        (Form::Tn, D_MODEL, D_MODEL, ROWS),
        (Form::Tn, D_FF, D_MODEL, ROWS),
        (Form::Tn, VOCAB, D_MODEL, ROWS),
        (Form::Nt, 1, VOCAB, D_MODEL),
        // A larger model: d_model 512, d_ff 1344, 10,000 tokens, batches of 8 times 256; logits
        // come in chunks of 448 rows.
        (Form::Nt, 2048, 512, 512),
        (Form::Nt, 2048, 1344, 512),
        (Form::Nt, 2048, 512, 1344),
        (Form::Nt, 448, 10_000, 512),
        (Form::Nn, 2048, 512, 512),
        (Form::Nn, 2048, 512, 1344),
        (Form::Nn, 2048, 1344, 512),
        (Form::Nn, 448, 512, 10_000),
        (Form::Tn, 512, 512, 2048),
        (Form::Tn, 1344, 512, 2048),
        (Form::Tn, 512, 1344, 2048),
        (Form::Tn, 10_000, 512, 448),
        (Form::Nt, 1, 10_000, 512),
        (Form::Nt, 8, 10_000, 512),
    ];
    for (form, m, n, k) in SHAPES {
        product_rows(table, form, (m, n, k));
    }
    for (kernel, transposed) in [
        (&matmul_stage::STAGE, false),
        (&matmul_stage::STAGE_TRANSPOSED, true),
        (&matmul_stage::STAGE_F16, false),
        (&matmul_stage::STAGE_TRANSPOSED_F16, true),
    ] {
        table.add(
            kernel,
            format!("1024x1024 transposed {transposed}"),
            move |case| {
                let elements = kernel.bindings[0].elements;
                let elements = elements.unwrap_or(Elements::Words);
                let tensor = case.random_of(elements, 1024, 1024, 1.0).tensor;
                let window = Window {
                    tensor,
                    transposed,
                    first_row: 0,
                    rows: 1024,
                    first_col: 0,
                    cols: 1024,
                };
                matmul_stage::stage(&mut case.plan, window);
            },
        );
    }
}

/// A product by each variant, for a shape that the table does not have.
pub fn matmul_rows(m: usize, n: usize, k: usize) -> Vec<Row> {
    let mut table = Table { rows: Vec::new() };
    product_rows(&mut table, Form::Nt, (m, n, k));
    table.rows
}

fn product_rows(table: &mut Table, form: Form, (m, n, k): (usize, usize, usize)) {
    let side = TEXTURE_SIDE;
    let few_texture = if m == 1 && k.is_multiple_of(4) {
        &matmul::ROW_TEXTURE
    } else {
        &matmul::FEW_TEXTURE
    };
    for (kernel, variant) in [
        (&matmul::TEXTURE_SUBGROUP, Variant::TextureSubgroup { side }),
        (&matmul::TEXTURE, Variant::Texture { side }),
        (&matmul::TILED, Variant::Tiled),
        (&matmul::TILED_QUADS, Variant::TiledQuads),
        (&matmul::TILED_SMALL, Variant::TiledSmall),
        (&matmul::ROW, Variant::Row),
        (&matmul::COOPERATIVE, Variant::Cooperative),
        (&matmul::COOPERATIVE_SMALL, Variant::CooperativeSmall),
        (&matmul::COOPERATIVE_8X8, Variant::Cooperative8x8),
        (&matmul::COOPERATIVE_SMALL_8X8, Variant::CooperativeSmall8x8),
        (&matmul::TILED_F16, Variant::TiledF16),
        (&matmul::TILED_QUADS_F16, Variant::TiledQuadsF16),
        (&matmul::FEW, Variant::Few),
        (&matmul::FEW_F16, Variant::FewF16),
        (few_texture, Variant::FewTexture),
    ] {
        // Few of the table's shapes have one row, or a few.
        let most_rows = match variant {
            Variant::Row => 1,
            Variant::Few | Variant::FewF16 | Variant::FewTexture => 8,
            _ => usize::MAX,
        };
        if m > most_rows || form != Form::Nt && most_rows < usize::MAX {
            continue;
        }
        table.add(kernel, format!("{m}x{n}x{k} {form:?}"), move |case| {
            product(case, variant, form, (m, n, k));
        });
        // Copies of the operands and sums of splits are part of a product.
        if let Some(row) = table.rows.last_mut() {
            row.alone = false;
            let used = Use {
                form,
                sizes: [m, n, k],
                operands: variant.operands(),
                in_quads: n.is_multiple_of(4),
                epilogue: Epilogue::Store,
            };
            row.obstacle = unmet(&used, variant.into());
            row.product = Some(used);
        }
    }
}

fn product(case: &mut Case, variant: Variant, form: Form, sizes: (usize, usize, usize)) {
    product_of(case, (variant, variant.operands()), form, sizes);
}

pub(super) fn product_of(
    case: &mut Case,
    (variant, operands): (Variant, Elements),
    form: Form,
    (m, n, k): (usize, usize, usize),
) {
    let transpose_a = form == Form::Tn;
    let transpose_b = form == Form::Nt;
    let (rows, cols) = if transpose_a { (k, m) } else { (m, k) };
    let a = case.random_of(operands, rows, cols, 1.0);
    let (rows, cols) = if transpose_b { (n, k) } else { (k, n) };
    let b = case.random_of(operands, rows, cols, 1.0);
    let output = case.plan.scratch("output", m, n);
    let epilogue = Epilogue::Store;
    let (a_tensor, b_tensor) = (a.tensor, b.tensor);
    let product = Product {
        form,
        a: a_tensor,
        b: b_tensor,
        output,
        epilogue,
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    // Past that the reference takes seconds.
    if m * n * k <= 1 << 24 {
        let shape = reference::matmul::MatmulShape { m, n, k };
        let want = match form {
            Form::Nn => reference::matmul::nn(&a.values, &b.values, shape),
            Form::Nt => reference::matmul::nt(&a.values, &b.values, shape),
            Form::Tn => reference::matmul::tn(&a.values, &b.values, shape),
        };
        case.expect("output", output, want);
    }
}
