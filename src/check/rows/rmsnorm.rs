//! Rows of root-mean-square normalisation.

use super::layers::SHAPES;
use super::{Table, added};
use crate::check::Case;
use crate::gpu::{AdapterClass, Elements};
use crate::kernels::rmsnorm::{self, Gradients, Saved, Variant};
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, by_width};
use crate::reference;

const EPS: f64 = 1e-5;

/// Ragged `[rows, cols]` for a subgroup of 8 lanes that keeps a row: from a quad of one lane to as
/// many as a lane may keep, with and without lanes that lack their last one; around 32 rows, which
/// one subgroup takes.
const KEPT_SHAPES: [(usize, usize); 10] = [
    (1, 4),
    (31, 28),
    (32, 32),
    (33, 36),
    (7, 64),
    (97, 128),
    (5, 344),
    (3, 512),
    (34, 768),
    (2, 1024),
];

pub(super) fn rows(table: &mut Table) {
    subgroup_rows(table);
    for (rows, cols) in SHAPES {
        // Tiny values make the epsilon count, large ones would overflow a sum of squares in f16.
        for scale in [1.0, 1e-3, 1e3] {
            let shape = format!("{rows}x{cols}, scale {scale}");
            let forward_kernel = by_width(cols, &rmsnorm::FORWARD, &rmsnorm::FORWARD_QUADS).0;
            table.add(forward_kernel, &shape, move |case| {
                forward(
                    case,
                    Variant::Reloaded,
                    (rows, cols),
                    scale,
                    Elements::Words,
                );
            });
            // Larger or smaller values are no halves.
            let elements: &[Elements] = if cols % 4 == 0 && scale == 1.0 {
                table.add(forward_kernel, format!("{shape}, halves"), move |case| {
                    forward(
                        case,
                        Variant::Reloaded,
                        (rows, cols),
                        scale,
                        Elements::Halves,
                    );
                });
                &[Elements::Words, Elements::Halves]
            } else {
                &[Elements::Words]
            };
            for accumulate in [false, true] {
                let shape = format!("{shape}, accumulate {accumulate}");
                let input = by_width(
                    cols,
                    &rmsnorm::BACKWARD_INPUT,
                    &rmsnorm::BACKWARD_INPUT_QUADS,
                );
                let weight = by_width(
                    cols,
                    &rmsnorm::BACKWARD_WEIGHT,
                    &rmsnorm::BACKWARD_WEIGHT_QUADS,
                );
                for &elements in elements {
                    table.add(input.0, format!("{shape}, {elements:?}"), move |case| {
                        backward_input(case, (rows, cols), scale, accumulate, elements);
                    });
                }
                table.add(weight.0, &shape, move |case| {
                    backward_weight(case, (rows, cols), scale, accumulate);
                });
            }
        }
    }
}

fn subgroup_rows(table: &mut Table) {
    for (rows, cols) in KEPT_SHAPES {
        for scale in [1.0, 1e-3, 1e3] {
            let shape = format!("{rows}x{cols}, scale {scale}");
            table.add_for(
                AdapterClass::Software,
                &rmsnorm::FORWARD_SUBGROUP,
                &shape,
                move |case| {
                    forward(
                        case,
                        Variant::Subgroup,
                        (rows, cols),
                        scale,
                        Elements::Words,
                    );
                },
            );
            for accumulate in [false, true] {
                let shape = format!("{shape}, accumulate {accumulate}");
                table.add_for(
                    AdapterClass::Software,
                    &rmsnorm::BACKWARD_SUBGROUP,
                    &shape,
                    move |case| {
                        backward(case, (rows, cols), scale, accumulate);
                    },
                );
            }
        }
    }
}

fn forward(
    case: &mut Case,
    variant: Variant,
    (rows, cols): (usize, usize),
    scale: f64,
    elements: Elements,
) {
    let input = case.random(rows, cols, scale);
    let weight = case.random(1, cols, 1.0);
    let plan = &mut case.plan;
    let (output, inv_rms) =
        rmsnorm::forward_by(plan, variant, input.tensor, weight.tensor, 1e-5, elements);
    let want = reference::rmsnorm::forward(&input.values, &weight.values, EPS);
    match elements {
        Elements::Words => case.expect("output", output, want.0),
        Elements::Halves => case.expect_halves("output", output, want.0),
    }
    case.expect("inv_rms", inv_rms, want.1);
}

fn backward(case: &mut Case, (rows, cols): (usize, usize), scale: f64, accumulate: bool) {
    let (saved, input, inv_rms) = saved(case, (rows, cols), scale);
    let weight = case.random(1, cols, 1.0);
    let d_output = case.random(rows, cols, 1.0);
    let d_input = case.random(rows, cols, 1.0);
    let d_weight = case.random(1, cols, 1.0);
    let [into_input, into_weight] =
        [d_input.tensor, d_weight.tensor].map(|tensor| Gradient { tensor, accumulate });
    let gradients = Gradients {
        d_output: d_output.tensor,
        d_input: into_input,
        d_weight: Some(into_weight),
        halves: None,
    };
    let plan = &mut case.plan;
    let mut sums = Sums::default();
    rmsnorm::backward_by(
        plan,
        Variant::Subgroup,
        saved,
        weight.tensor,
        gradients,
        &mut sums,
    );
    sums.flush(plan);
    let mut want = reference::rmsnorm::backward(&input, &weight.values, &inv_rms, &d_output.values);
    if accumulate {
        want.0 = added(&d_input.values, want.0);
        want.1 = added(&d_weight.values, want.1);
    }
    case.expect("d_input", d_input.tensor, want.0);
    case.expect("d_weight", d_weight.tensor, want.1);
}

fn saved(case: &mut Case, (rows, cols): (usize, usize), scale: f64) -> (Saved, Vec<f64>, Vec<f64>) {
    let input = case.random(rows, cols, scale);
    let ones = vec![1.0; cols];
    let (_, inv_rms) = reference::rmsnorm::forward(&input.values, &ones, EPS);
    let inv_rms = case.floats(1, rows, inv_rms);
    (
        Saved {
            input: input.tensor,
            inv_rms: inv_rms.tensor,
        },
        input.values,
        inv_rms.values,
    )
}

fn backward_input(
    case: &mut Case,
    (rows, cols): (usize, usize),
    scale: f64,
    accumulate: bool,
    elements: Elements,
) {
    let (saved, input, inv_rms) = saved(case, (rows, cols), scale);
    let weight = case.random(1, cols, 1.0);
    let d_output = case.random(rows, cols, 1.0);
    let d_input = case.random(rows, cols, 1.0);
    let halves = match elements {
        Elements::Words => None,
        Elements::Halves => Some(case.plan.scratch_halves("halves", rows, cols)),
    };
    rmsnorm::backward_input(
        &mut case.plan,
        saved,
        weight.tensor,
        d_output.tensor,
        Gradient {
            tensor: d_input.tensor,
            accumulate,
        },
        halves,
    );
    let mut want =
        reference::rmsnorm::backward_input(&input, &weight.values, &inv_rms, &d_output.values);
    if accumulate {
        want = added(&d_input.values, want);
    }
    if let Some(halves) = halves {
        case.expect_halves("halves", halves, want.clone());
    }
    if cols == 1 && !accumulate {
        // One column leaves the difference of two equal numbers: what remains is their rounding.
        let scale = inv_rms.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let tolerance = 1e-5 * scale.max(1.0) / want[0].abs().max(f64::MIN_POSITIVE);
        case.expect_within("d_input", d_input.tensor, want, tolerance);
    } else {
        case.expect("d_input", d_input.tensor, want);
    }
}

fn backward_weight(case: &mut Case, (rows, cols): (usize, usize), scale: f64, accumulate: bool) {
    let (saved, input, inv_rms) = saved(case, (rows, cols), scale);
    let d_output = case.random(rows, cols, 1.0);
    let d_weight = case.random(1, cols, 1.0);
    let mut sums = Sums::default();
    rmsnorm::backward_weight(
        &mut case.plan,
        saved,
        d_output.tensor,
        Gradient {
            tensor: d_weight.tensor,
            accumulate,
        },
        &mut sums,
    );
    sums.flush(&mut case.plan);
    let mut want = reference::rmsnorm::backward_weight(&input, &inv_rms, &d_output.values, cols);
    if accumulate {
        want = added(&d_weight.values, want);
    }
    case.expect("d_weight", d_weight.tensor, want);
}
