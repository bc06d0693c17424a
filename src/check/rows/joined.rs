//! Rows of sums of products: those that become one product over operands that lie together, those that
//! cannot, and the products of other forms that read a part of such operands.

use super::{Table, added};
use crate::check::{Case, Data};
use crate::gpu::{AdapterClass, Elements, Window};
use crate::kernels::family::unmet;
use crate::kernels::matmul::{self, Epilogue, Form, Product, TEXTURE_SIDE, Use, Variant};
use crate::kernels::matmul_stage::{self, COLS_MULTIPLE, ROWS_MULTIPLE};
use crate::reference::{matmul as reference, matmul_stage as stage_reference};

/// `(m, n)` and each pair's k: two and three pairs, tiles that are full and that are not, columns that
/// are no whole quads, parts that end within a tile of the product that reads them alone, and depths
/// that cannot lie together.
const SUMS: [(usize, usize, &[usize]); 9] = [
    (1, 4, &[8, 8]),
    (33, 72, &[8, 24]),
    (37, 66, &[40, 8, 16]),
    (64, 64, &[64, 32, 32]),
    (130, 40, &[72, 104]),
    (31, 128, &[136, 8, 8]),
    (70, 36, &[120, 64, 200]),
    (40, 24, &[12, 20]),
    (17, 9, &[7, 16, 8]),
];

pub(super) fn rows(table: &mut Table) {
    stage_rows(table);
    for (m, n, depths) in SUMS {
        for side in [TEXTURE_SIDE, 64] {
            for (joined, alone) in [
                (Variant::Texture { side }, Variant::Texture { side }),
                (
                    Variant::TextureSubgroup { side },
                    Variant::TextureSubgroup { side },
                ),
                (Variant::TextureSubgroup { side }, Variant::Texture { side }),
            ] {
                let shape = format!(
                    "sum {m}x{n}x{depths:?} side {side}, alone by {}",
                    alone.kernel().label()
                );
                table.add_for(
                    AdapterClass::Software,
                    joined.kernel(),
                    shape,
                    move |case| sum(case, joined, alone, (m, n, depths)),
                );
                table.last_also_runs(alone.kernel());
                let outputs = std::iter::once((joined, n))
                    .chain([(alone, n)])
                    .chain(depths.iter().map(|&k| (alone, k)));
                let mut obstacles = outputs.filter_map(|(by, cols)| unmet_by(by, cols));
                table.last_cannot_run(obstacles.next());
            }
        }
        let shape = format!("sum {m}x{n}x{depths:?}");
        table.add_for(AdapterClass::Gpu, &matmul::TILED, shape, move |case| {
            sum(case, Variant::Tiled, Variant::Tiled, (m, n, depths));
        });
    }
    let side = TEXTURE_SIDE;
    for variant in [Variant::Texture { side }, Variant::TextureSubgroup { side }] {
        const LIMIT_WORDS: usize = 40 * 64;
        let shape = format!("sum 150x24x[40, 64] in bindings of {LIMIT_WORDS} words");
        table.add_for(
            AdapterClass::Software,
            variant.kernel(),
            shape,
            move |case| {
                case.plan.set_max_binding_words(LIMIT_WORDS);
                sum(case, variant, variant, (150, 24, &[40, 64]));
            },
        );
    }
}

/// What a variant needs of a product with `cols` columns and does not get.
fn unmet_by(variant: Variant, cols: usize) -> Option<&'static str> {
    let used = Use {
        form: Form::Nn,
        sizes: [1, cols, 1],
        operands: Elements::Words,
        in_quads: cols.is_multiple_of(4),
        epilogue: Epilogue::Store,
    };
    unmet(&used, variant.into())
}

/// `A1 B1 + A2 B2 + ...`, as the gradient of an input that linear layers share, and for each `A` its
/// products with that input: as the left operand, like the gradient of a weight, and as the right one,
/// which has to lie at a texture's origin.
fn sum(
    case: &mut Case,
    joined: Variant,
    alone: Variant,
    (m, n, depths): (usize, usize, &'static [usize]),
) {
    let pairs: Vec<(Data, Data)> = depths
        .iter()
        .map(|&k| (case.random(m, k, 1.0), case.random(k, n, 1.0)))
        .collect();
    let input = case.random(m, n, 1.0);
    let output = case.plan.scratch("output", m, n);
    let tensors: Vec<_> = pairs.iter().map(|(a, b)| (a.tensor, b.tensor)).collect();
    matmul::matmul_sum_by(&mut case.plan, joined, &tensors, output);
    let mut want = vec![0.0; m * n];
    for ((a, b), &k) in pairs.iter().zip(depths) {
        let shape = reference::MatmulShape { m, n, k };
        want = added(&want, reference::nn(&a.values, &b.values, shape));
        let d_weight = case.plan.scratch("d_weight", k, n);
        let product = Product {
            form: Form::Tn,
            a: a.tensor,
            b: input.tensor,
            output: d_weight,
            epilogue: Epilogue::Store,
        };
        matmul::matmul_by(&mut case.plan, alone, product);
        let shape = reference::MatmulShape { m: k, n, k: m };
        let want = reference::tn(&a.values, &input.values, shape);
        case.expect("d_weight", d_weight, want);
        let transposed = case.plan.scratch("transposed", n, k);
        let product = Product {
            a: input.tensor,
            b: a.tensor,
            output: transposed,
            ..product
        };
        matmul::matmul_by(&mut case.plan, alone, product);
        let shape = reference::MatmulShape { m: n, n: k, k: m };
        let want = reference::tn(&input.values, &a.values, shape);
        case.expect("transposed", transposed, want);
    }
    case.expect("output", output, want);
}

/// Matrices in one texture, by the driver's copy where their rows suit it and by the kernel.
fn stage_rows(table: &mut Table) {
    let beside: [(usize, &[usize]); 4] = [
        (8, &[64, 64, 128]),
        (9, &[4, 12, 65]),
        (16, &[40, 64, 200]),
        (70, &[72, 8, 136]),
    ];
    for (rows, widths) in beside {
        let shape = format!("{rows} rows of {widths:?} side by side");
        table.add_once(&matmul_stage::STAGE, shape, move |case| {
            side_by_side(case, rows, widths);
        });
    }
    let below: [(usize, &[usize]); 3] = [(64, &[8, 24, 16]), (65, &[40, 8, 8]), (7, &[64, 8, 72])];
    for (cols, heights) in below {
        for (kernel, transposed) in [
            (&matmul_stage::STAGE, false),
            (&matmul_stage::STAGE_TRANSPOSED, true),
        ] {
            let shape = format!("{cols} columns of {heights:?} stacked, transposed {transposed}");
            table.add_once(kernel, shape, move |case| {
                stacked(case, cols, heights, transposed);
            });
        }
    }
}

fn side_by_side(case: &mut Case, rows: usize, widths: &[usize]) {
    let inputs: Vec<_> = widths
        .iter()
        .map(|&cols| case.random(rows, cols, 1.0))
        .collect();
    let windows: Vec<_> = inputs.iter().map(|d| Window::whole(d.tensor)).collect();
    let staged = matmul_stage::stage_side_by_side(&mut case.plan, &windows);
    let padded_rows = rows.next_multiple_of(ROWS_MULTIPLE);
    let mut first = 0;
    for (input, &cols) in inputs.iter().zip(widths) {
        let part = (0..rows, 0..cols);
        let want = stage_reference::stage(&input.values, cols, false, part, (padded_rows, cols));
        case.expect_texture("part", staged.columns(first, cols), want);
        first += cols;
    }
}

fn stacked(case: &mut Case, cols: usize, heights: &[usize], transposed: bool) {
    let input = |&rows: &usize| match transposed {
        true => case.random(cols, rows, 1.0),
        false => case.random(rows, cols, 1.0),
    };
    let inputs: Vec<_> = heights.iter().map(input).collect();
    let window = |(input, &rows): (&Data, &usize)| Window {
        transposed,
        rows,
        cols,
        ..Window::whole(input.tensor)
    };
    let windows: Vec<_> = inputs.iter().zip(heights).map(window).collect();
    let staged = matmul_stage::stage_stacked(&mut case.plan, &windows);
    let padded_cols = cols.next_multiple_of(COLS_MULTIPLE);
    let mut want = Vec::new();
    for (input, &rows) in inputs.iter().zip(heights) {
        let (stride, part) = (input.tensor.cols, (0..rows, 0..cols));
        let padded = (rows, padded_cols);
        want.extend(stage_reference::stage(
            &input.values,
            stride,
            transposed,
            part,
            padded,
        ));
    }
    case.expect_texture("staged", staged, want);
}
