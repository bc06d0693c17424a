//! Rows of cross-entropy and of the sum of losses.

use super::{Table, added};
use crate::kernels::by_width;
use crate::kernels::cross_entropy::{self, IGNORED};
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
            let shape = format!("{rows}x{vocab}, scale {scale}, gradient {gradient}");
            let kernel = by_width(
                vocab,
                &cross_entropy::FORWARD,
                &cross_entropy::FORWARD_QUADS,
            )
            .0;
            table.add(kernel, shape, move |case| {
                let logits = case.random(rows, vocab, scale);
                let mut targets: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
                if rows > 2 {
                    targets[1] = IGNORED;
                }
                let targets_tensor = case.words(&targets);
                let losses = case.plan.scratch("losses", 1, rows);
                let factor = 1.0 / 64.0;
                let gradient_scale = gradient.then_some(1.0 / 64.0);
                let plan = &mut case.plan;
                cross_entropy::forward(plan, logits.tensor, targets_tensor, losses, gradient_scale);
                case.expect(
                    "losses",
                    losses,
                    reference::forward(&logits.values, &targets),
                );
                let after = if gradient {
                    reference::backward(&logits.values, &targets, factor)
                } else {
                    logits.values
                };
                case.expect("logits", logits.tensor, after);
            });
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
                    cross_entropy::loss_sum(
                        &mut case.plan,
                        losses.tensor,
                        total.tensor,
                        0.25,
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
