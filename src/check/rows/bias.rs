//! Rows of biases.

use super::{Table, added, side_by_side};
use crate::check::Case;
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, bias, by_width};
use crate::reference;

/// `(rows, cols, period)`: one row for all, or positions of whole and of begun sequences; around the 32 repetitions
/// that one lane adds up.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 67, 1),
    (31, 8, 1),
    (32, 9, 1),
    (33, 64, 1),
    (97, 576, 1),
    (65, 768, 1),
    (6, 8, 3),
    (12, 67, 7),
    (5, 24, 13),
    (195, 20, 3),
    (2, 1030, 2),
];

pub(super) fn rows(table: &mut Table) {
    for (rows, cols, period) in SHAPES {
        for gap in [0, 4, 3] {
            let shape = format!("{rows}x{cols}, period {period}, {gap} columns before and behind");
            let columns = cols | gap | (cols + 2 * gap);
            let kernel = by_width(columns, &bias::FORWARD, &bias::FORWARD_QUADS).0;
            table.add_once(kernel, &shape, move |case| {
                forward(case, (rows, cols), period, gap);
            });
            for accumulate in [false, true] {
                let kernel = by_width(columns, &bias::BACKWARD, &bias::BACKWARD_QUADS).0;
                let shape = format!("{shape}, accumulate {accumulate}");
                table.add(kernel, shape, move |case| {
                    backward(case, (rows, cols), period, gap, accumulate);
                });
            }
        }
    }
    // Blocks that begin anywhere else than a sequence does would meet other positions.
    const LIMIT_WORDS: usize = 1 << 10;
    for period in [1, 3] {
        let shape = format!("130x24, period {period}, in bindings of {LIMIT_WORDS} words");
        table.add_once(&bias::FORWARD_QUADS, &shape, move |case| {
            case.plan.set_max_binding_words(LIMIT_WORDS);
            forward(case, (130, 24), period, 4);
        });
        table.add(&bias::BACKWARD_QUADS, &shape, move |case| {
            case.plan.set_max_binding_words(LIMIT_WORDS);
            backward(case, (130, 24), period, 4, true);
        });
    }
}

fn forward(case: &mut Case, (rows, cols): (usize, usize), period: usize, gap: usize) {
    // What is before and behind stays as it is.
    let [before, values, behind] = [gap, cols, gap].map(|cols| case.random(rows, cols, 1.0).values);
    let bias = case.random(period, cols, 1.0);
    let whole = side_by_side(rows, &[&before, &values, &behind]);
    let whole = case.floats(rows, cols + 2 * gap, whole).tensor;
    bias::forward(&mut case.plan, whole, gap, bias.tensor);
    let want = reference::bias::forward(&values, &bias.values, cols);
    let want = side_by_side(rows, &[&before, &want, &behind]);
    case.expect("values", whole, want);
}

fn backward(
    case: &mut Case,
    (rows, cols): (usize, usize),
    period: usize,
    gap: usize,
    accumulate: bool,
) {
    let [before, d_output, behind] =
        [gap, cols, gap].map(|cols| case.random(rows, cols, 1.0).values);
    let whole = side_by_side(rows, &[&before, &d_output, &behind]);
    let whole = case.floats(rows, cols + 2 * gap, whole).tensor;
    let d_bias = case.random(period, cols, 1.0);
    let into = Gradient {
        tensor: d_bias.tensor,
        accumulate,
    };
    let mut sums = Sums::default();
    bias::backward(&mut case.plan, whole, gap, into, &mut sums);
    sums.flush(&mut case.plan);
    let mut want = reference::bias::backward(&d_output, period, cols);
    if accumulate {
        want = added(&d_bias.values, want);
    }
    case.expect("d_bias", d_bias.tensor, want);
}
