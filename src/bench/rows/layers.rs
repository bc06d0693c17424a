//! Rows of what a block does beside its products and its attention.

use super::{D_FF, D_MODEL, ODD_WIDTH, ROWS, Table, tensor};
use crate::gpu::Elements;
use crate::kernels::attention::Qkv;
use crate::kernels::head_norm::{Gains, HeadNormShape};
use crate::kernels::rope::RopeTable;
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, bias, gelu, head_norm, layernorm, rmsnorm, rope, scale, swiglu};
use crate::reference;

/// `[rows, cols]` of a medium model.
const WIDE: (usize, usize) = (2048, 512);

pub(super) fn rows(table: &mut Table) {
    rmsnorm_rows(table);
    layernorm_rows(table);
    head_norm_rows(table);
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
    gelu_rows(table);
    bias_rows(table);
    // What adapters of these ranks make of the rows.
    for (kernel, rank) in [(&scale::SCALE, 9), (&scale::SCALE_QUADS, 16)] {
        table.add(kernel, format!("{ROWS}x{rank}"), move |case| {
            let values = tensor(case, ROWS, rank);
            scale::scale(&mut case.plan, values, 0.5);
        });
    }
}

fn gelu_rows(table: &mut Table) {
    for (kernel, cols) in [
        (&gelu::FORWARD, ODD_WIDTH + 1),
        (&gelu::FORWARD_QUADS, 4 * D_MODEL),
        (&gelu::BACKWARD, ODD_WIDTH + 1),
        (&gelu::BACKWARD_QUADS, 4 * D_MODEL),
    ] {
        table.add(kernel, format!("{ROWS}x{cols}"), move |case| {
            let [input, d_output] = [(); 2].map(|()| case.random(ROWS, cols, 1.0));
            let plan = &mut case.plan;
            let output = plan.scratch("output", ROWS, cols);
            gelu::forward_into(plan, input.tensor, output);
            gelu::backward(plan, input.tensor, d_output.tensor);
            case.expect("output", output, reference::gelu::forward(&input.values));
        });
    }
}

fn bias_rows(table: &mut Table) {
    // A bias, and a position embedding of sequences of 128.
    for (kernel, cols, period) in [
        (&bias::FORWARD, ODD_WIDTH, 1),
        (&bias::FORWARD_QUADS, 4 * D_MODEL, 1),
        (&bias::FORWARD_QUADS, D_MODEL, 128),
        (&bias::BACKWARD, ODD_WIDTH, 1),
        (&bias::BACKWARD_QUADS, 4 * D_MODEL, 1),
        (&bias::BACKWARD_QUADS, D_MODEL, 128),
    ] {
        let shape = format!("{ROWS}x{cols}, period {period}");
        table.add(kernel, shape, move |case| {
            let [values, d_output] = [(); 2].map(|()| tensor(case, ROWS, cols));
            let [row, d_bias] = [(); 2].map(|()| tensor(case, period, cols));
            let into = Gradient {
                tensor: d_bias,
                accumulate: false,
            };
            let plan = &mut case.plan;
            bias::forward(plan, values, 0, row);
            let mut sums = Sums::default();
            bias::backward(plan, d_output, 0, into, &mut sums);
            sums.flush(plan);
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

fn layernorm_rows(table: &mut Table) {
    for (kernel, (rows, cols)) in [
        (&layernorm::FORWARD, (ROWS, ODD_WIDTH)),
        (&layernorm::FORWARD_QUADS, (ROWS, D_MODEL)),
        (&layernorm::FORWARD_QUADS, WIDE),
        (&layernorm::BACKWARD_INPUT, (ROWS, ODD_WIDTH)),
        (&layernorm::BACKWARD_INPUT_QUADS, (ROWS, D_MODEL)),
        (&layernorm::BACKWARD_INPUT_QUADS, WIDE),
        (&layernorm::BACKWARD_WEIGHT, (ROWS, ODD_WIDTH)),
        (&layernorm::BACKWARD_WEIGHT_QUADS, (ROWS, D_MODEL)),
        (&layernorm::BACKWARD_WEIGHT_QUADS, WIDE),
    ] {
        table.add(kernel, format!("{rows}x{cols}"), move |case| {
            let input = case.random(rows, cols, 1.0);
            let [weight, bias] = [(); 2].map(|()| case.random(1, cols, 1.0));
            let [d_output, d_input] = [(); 2].map(|()| tensor(case, rows, cols));
            let [d_weight, d_bias] = [(); 2].map(|()| tensor(case, 1, cols));
            let plan = &mut case.plan;
            let [x, gain, added] = [input.tensor, weight.tensor, bias.tensor];
            let (output, saved) = layernorm::forward(plan, x, gain, added, 1e-5, Elements::Words);
            let into = |tensor| Gradient {
                tensor,
                accumulate: false,
            };
            let gradients = layernorm::Gradients {
                d_output,
                d_input: into(d_input),
                d_weight: Some(into(d_weight)),
                d_bias: Some(into(d_bias)),
                halves: None,
            };
            let mut sums = Sums::default();
            layernorm::backward(plan, saved, gain, gradients, &mut sums);
            sums.flush(plan);
            let (x, gain, added) = (&input.values, &weight.values, &bias.values);
            case.expect(
                "output",
                output,
                reference::layernorm::forward(x, gain, added, 1e-5),
            );
        });
    }
}

fn head_norm_rows(table: &mut Table) {
    let [odd, even] = [14, 64].map(|head_dim| HeadNormShape {
        num_heads: 16,
        num_kv_heads: 8,
        head_dim,
    });
    for (kernel, shape) in [
        (&head_norm::FORWARD, odd),
        (&head_norm::FORWARD_QUADS, even),
        (&head_norm::BACKWARD_INPUT, odd),
        (&head_norm::BACKWARD_INPUT_QUADS, even),
        (&head_norm::BACKWARD_WEIGHT, odd),
        (&head_norm::BACKWARD_WEIGHT_QUADS, even),
    ] {
        let head_dim = shape.head_dim;
        table.add(
            kernel,
            format!("{ROWS} rows, heads 16/8x{head_dim}"),
            move |case| {
                let [tensor, d_normed] =
                    [(); 2].map(|()| case.random(ROWS, 32 * head_dim, 1.0).tensor);
                let projected = Qkv {
                    tensor,
                    key_first: 16 * head_dim,
                    value_first: 24 * head_dim,
                };
                let [query, key, d_query, d_key] =
                    [(); 4].map(|()| case.random(1, head_dim, 1.0).tensor);
                let gains = Gains { query, key };
                let into = |tensor| Gradient {
                    tensor,
                    accumulate: false,
                };
                let gradients = head_norm::Gradients {
                    d_normed,
                    d_query_gain: Some(into(d_query)),
                    d_key_gain: Some(into(d_key)),
                };
                let plan = &mut case.plan;
                let (_, saved) = head_norm::forward(plan, projected, shape, gains, 1e-6);
                let mut sums = Sums::default();
                head_norm::backward(plan, saved, gains, gradients, &mut sums);
                sums.flush(plan);
            },
        );
    }
}
