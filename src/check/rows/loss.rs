//! Rows of cross-entropy and of the sum of losses.

use super::{Table, added, side_by_side};
use crate::check::Case;
use crate::kernels::cross_entropy::{self, Halved, IGNORED};
use crate::reference::cross_entropy as reference;

pub(super) fn rows(table: &mut Table) {
    const SHAPES: [(usize, usize); 7] = [
        (1, 2),
        (5, 7),
        (3, 8),
        (4, 63),
        (6, 64),
        (33, 65),
        (2, 1030),
    ];
    for (rows, vocab) in SHAPES {
        for (scale, gradient) in [(1.0, true), (1.0, false), (20.0, true)] {
            for output in [Output::Dense, Output::Gaps, Output::Halves] {
                // Halves are of gradients.
                if output == Output::Halves && (!gradient || scale > 1.0) {
                    continue;
                }
                let shape =
                    format!("{rows}x{vocab}, scale {scale}, gradient {gradient}, {output:?}");
                let kernel = match output {
                    Output::Dense if vocab % 4 != 0 => &cross_entropy::FORWARD,
                    _ => &cross_entropy::FORWARD_QUADS,
                };
                table.add(kernel, shape, move |case| {
                    loss_row(case, (rows, vocab), scale, gradient, output);
                });
            }
        }
    }
    for rows in [1, 63, 64, 65, 1030] {
        for accumulate in [false, true] {
            table.add_once(
                &cross_entropy::LOSS_SUM,
                format!("{rows}, accumulate {accumulate}"),
                move |case| {
                    let losses = case.random(1, rows, 1.0);
                    let total = case.random(1, 1, 1.0);
                    let scale = case.floats(1, 1, vec![0.25]).tensor;
                    cross_entropy::loss_sum(
                        &mut case.plan,
                        losses.tensor,
                        total.tensor,
                        scale,
                        accumulate,
                    );
                    let sum = losses.values.iter().sum::<f64>() * 0.25;
                    let old = if accumulate {
                        &total.values[..]
                    } else {
                        &[0.0]
                    };
                    case.expect("total", total.tensor, added(old, vec![sum]));
                },
            );
        }
    }
}

/// How logits lie, and what becomes of their gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Output {
    /// Row by row, in place.
    Dense,
    /// Rows begin at quads, in place.
    Gaps,
    /// The same to halves.
    Halves,
}

fn loss_row(
    case: &mut Case,
    (rows, vocab): (usize, usize),
    scale: f64,
    gradient: bool,
    output: Output,
) {
    let logits = case.random(rows, vocab, scale).values;
    let gap = if output == Output::Dense {
        0
    } else {
        vocab.next_multiple_of(4) - vocab
    };
    let nothing = vec![f64::NAN; rows * gap];
    let given = side_by_side(rows, &[&logits, &nothing]);
    let tensor = case
        .floats(rows, vocab + gap, given)
        .tensor
        .columns(0, vocab);
    let mut targets: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
    if rows > 2 {
        targets[1] = IGNORED;
    }
    if rows == 3 {
        targets.fill(IGNORED);
    }
    let targets_tensor = case.words(&targets);
    let losses = case.plan.scratch("losses", 1, rows);
    let scale = case.floats(1, 1, vec![1.0 / 64.0]).tensor;
    let halved = (output == Output::Halves).then(|| Halved {
        gradient: case.plan.scratch_halves("d_logits", rows, vocab),
        factor: case.floats(1, 1, vec![256.0]).tensor,
    });
    let plan = &mut case.plan;
    cross_entropy::forward(
        plan,
        tensor,
        targets_tensor,
        losses,
        gradient.then_some(scale),
        halved,
    );
    case.expect("losses", losses, reference::forward(&logits, &targets));
    if let Some(halved) = halved {
        let want = reference::backward(&logits, &targets, 256.0 / 64.0);
        return case.expect_halves("d_logits", halved.gradient, want);
    }
    let after = if gradient {
        reference::backward(&logits, &targets, 1.0 / 64.0)
    } else {
        logits
    };
    case.expect("logits", tensor, after);
}
