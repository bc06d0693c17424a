//! Rows of what a block does beside its products and its attention.

use super::{D_FF, D_MODEL, ODD_WIDTH, ROWS, Table, tensor};
use crate::gpu::Elements;
use crate::kernels::rope::RopeTable;
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, rmsnorm, rope, swiglu};
use crate::reference;

/// `[rows, cols]` of a medium model.
const WIDE: (usize, usize) = (2048, 512);

pub(super) fn rows(table: &mut Table) {
    rmsnorm_rows(table);
    for (heads, head_dim) in [(9, 14), (4, 32)] {
        let cols = heads * head_dim;
        let shape = format!("{ROWS}x{cols}, heads {heads}x{head_dim}");
        table.add(&rope::FORWARD, shape, move |case| {
            let values = tensor(case, ROWS, cols);
            let table = RopeTable {
                angles: tensor(case, 128, head_dim),
            };
            rope::forward(&mut case.plan, table, values, heads);
        });
    }
    for (kernel, d_ff) in [
        (&swiglu::FORWARD, ODD_WIDTH + 1),
        (&swiglu::FORWARD_QUADS, D_FF),
        (&swiglu::BACKWARD, ODD_WIDTH + 1),
        (&swiglu::BACKWARD_QUADS, D_FF),
    ] {
        table.add(kernel, format!("{ROWS}x{d_ff}"), move |case| {
            let [gate_up, d_output] = [2 * d_ff, d_ff].map(|cols| tensor(case, ROWS, cols));
            let plan = &mut case.plan;
            let output = plan.scratch("output", ROWS, d_ff);
            swiglu::forward_into(plan, gate_up, d_ff, output);
            swiglu::backward(plan, gate_up, d_ff, d_output);
        });
    }
}

fn rmsnorm_rows(table: &mut Table) {
    use rmsnorm::Variant::{Reloaded, Subgroup};
    for (kernel, variant, (rows, cols)) in [
        (&rmsnorm::FORWARD, Reloaded, (ROWS, ODD_WIDTH)),
        (&rmsnorm::FORWARD_QUADS, Reloaded, (ROWS, D_MODEL)),
        (&rmsnorm::FORWARD_QUADS, Reloaded, WIDE),
        (&rmsnorm::FORWARD_SUBGROUP, Subgroup, (ROWS, D_MODEL)),
        (&rmsnorm::FORWARD_SUBGROUP, Subgroup, WIDE),
        (&rmsnorm::BACKWARD_INPUT, Reloaded, (ROWS, ODD_WIDTH)),
        (&rmsnorm::BACKWARD_INPUT_QUADS, Reloaded, (ROWS, D_MODEL)),
        (&rmsnorm::BACKWARD_INPUT_QUADS, Reloaded, WIDE),
        (&rmsnorm::BACKWARD_WEIGHT, Reloaded, (ROWS, ODD_WIDTH)),
        (&rmsnorm::BACKWARD_WEIGHT_QUADS, Reloaded, (ROWS, D_MODEL)),
        (&rmsnorm::BACKWARD_WEIGHT_QUADS, Reloaded, WIDE),
        (&rmsnorm::BACKWARD_SUBGROUP, Subgroup, (ROWS, D_MODEL)),
        (&rmsnorm::BACKWARD_SUBGROUP, Subgroup, WIDE),
    ] {
        table.add(kernel, format!("{rows}x{cols}"), move |case| {
            let [d_output, d_input] = [(); 2].map(|()| tensor(case, rows, cols));
            let input = case.random(rows, cols, 1.0);
            let weight = case.random(1, cols, 1.0);
            let d_weight = tensor(case, 1, cols);
            let plan = &mut case.plan;
            let (output, inv_rms) = rmsnorm::forward_by(
                plan,
                variant,
                input.tensor,
                weight.tensor,
                1e-5,
                Elements::Words,
            );
            let saved = rmsnorm::Saved {
                input: input.tensor,
                inv_rms,
            };
            let [d_input, d_weight] = [d_input, d_weight].map(|tensor| Gradient {
                tensor,
                accumulate: false,
            });
            let gradients = rmsnorm::Gradients {
                d_output,
                d_input,
                d_weight: Some(d_weight),
                halves: None,
            };
            let mut sums = Sums::default();
            rmsnorm::backward_by(plan, variant, saved, weight.tensor, gradients, &mut sums);
            sums.flush(plan);
            let want = reference::rmsnorm::forward(&input.values, &weight.values, 1e-5);
            case.expect("output", output, want.0);
        });
    }
}
