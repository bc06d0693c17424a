//! Root-mean-square layer normalisation (Zhang and Sennrich 2019).

use super::sum::sum_partials;
use super::{QUADS, QUADS_SOURCE, WORDS_SOURCE, binding, by_width, row_lanes};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Requirement, Role, Tensor};
use crate::{params, shader};

params!(ForwardParams {
    rows: u32,
    cols: u32,
    eps: f32
});
params!(InputParams {
    rows: u32,
    cols: u32
});
params!(WeightParams {
    rows: u32,
    cols: u32,
    rows_per_block: u32
});

/// Normalises rows and keeps the inverse root mean square of each.
pub static FORWARD: Kernel = Kernel {
    name: "rmsnorm_forward",
    variant: PORTABLE,
    source: shader!("rmsnorm_forward.wgsl"),
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
        WORDS_SOURCE,
    ],
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("output", Role::Out),
        binding("inv_rms", Role::Out),
    ],
    params: ForwardParams::LAYOUT,
    requires: Requirement::Portable,
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
        QUADS_SOURCE,
    ],
    ..FORWARD
};

/// Gradient for the input.
pub static BACKWARD_INPUT: Kernel = Kernel {
    name: "rmsnorm_backward_input",
    variant: PORTABLE,
    source: shader!("rmsnorm_backward_input.wgsl"),
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
        WORDS_SOURCE,
    ],
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("inv_rms", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::OutOrAccumulate),
    ],
    params: InputParams::LAYOUT,
    requires: Requirement::Portable,
};

/// [`BACKWARD_INPUT`] for rows of whole quads.
pub static BACKWARD_INPUT_QUADS: Kernel = Kernel {
    variant: QUADS,
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
        QUADS_SOURCE,
    ],
    ..BACKWARD_INPUT
};

/// Gradient for the gain, one partial sum a block of rows.
pub static BACKWARD_WEIGHT: Kernel = Kernel {
    name: "rmsnorm_backward_weight",
    variant: PORTABLE,
    source: shader!("rmsnorm_backward_weight.wgsl"),
    shared: &[WORDS_SOURCE],
    bindings: &[
        binding("input", Role::In),
        binding("inv_rms", Role::In),
        binding("d_output", Role::In),
        binding("partials", Role::Out),
    ],
    params: WeightParams::LAYOUT,
    requires: Requirement::Portable,
};

/// [`BACKWARD_WEIGHT`] for rows of whole quads.
pub static BACKWARD_WEIGHT_QUADS: Kernel = Kernel {
    variant: QUADS,
    shared: &[QUADS_SOURCE],
    ..BACKWARD_WEIGHT
};

/// Rows that one lane of the gain's gradient adds up.
const ROWS_PER_BLOCK: usize = 32;

/// Normalises `input` `[rows, cols]` with gain `weight` `[cols]`.
///
/// Returns the output `[rows, cols]` and the inverse root mean square `[rows]`.
pub fn forward(plan: &mut Plan, input: Tensor, weight: Tensor, eps: f32) -> (Tensor, Tensor) {
    let (rows, cols) = (input.rows, input.cols);
    let output = plan.scratch("normed", rows, cols);
    let inv_rms = plan.scratch("inv_rms", 1, rows);
    let (kernel, width) = by_width(cols, &FORWARD, &FORWARD_QUADS);
    let params = ForwardParams {
        rows: word(rows),
        cols: word(cols / width),
        eps,
    };
    let bindings = [input.into(), weight.into(), output.into(), inv_rms.into()];
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .workgroups(flat_workgroups(rows, 1))
            .flops(4 * input.len()),
    );
    (output, inv_rms)
}

/// What [`backward_input`] and [`backward_weight`] need of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// `[rows, cols]`.
    pub input: Tensor,
    /// `[rows]`.
    pub inv_rms: Tensor,
}

/// Writes the gradient for the input to `d_input` `[rows, cols]`, or adds it if `accumulate`.
pub fn backward_input(
    plan: &mut Plan,
    saved: Saved,
    weight: Tensor,
    d_output: Tensor,
    d_input: Tensor,
    accumulate: bool,
) {
    let (kernel, width) = by_width(d_input.cols, &BACKWARD_INPUT, &BACKWARD_INPUT_QUADS);
    let params = InputParams {
        rows: word(d_input.rows),
        cols: word(d_input.cols / width),
    };
    let bindings = [
        saved.input.into(),
        weight.into(),
        saved.inv_rms.into(),
        d_output.into(),
        d_input.into(),
    ];
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .constant("ACCUMULATE", accumulate.into())
            .workgroups(flat_workgroups(d_input.rows, 1))
            .flops(8 * d_input.len()),
    );
}

/// Writes the gradient for the gain to `d_weight` `[cols]`, or adds it if `accumulate`.
pub fn backward_weight(
    plan: &mut Plan,
    saved: Saved,
    d_output: Tensor,
    d_weight: Tensor,
    accumulate: bool,
) {
    let (rows, cols) = (d_output.rows, d_output.cols);
    // No more blocks than one dimension of the grid holds.
    let rows_per_block = ROWS_PER_BLOCK.max(rows.div_ceil(65_535));
    let blocks = rows.div_ceil(rows_per_block);
    let partials = plan.scratch("gain_sums", blocks, cols);
    let (kernel, width) = by_width(cols, &BACKWARD_WEIGHT, &BACKWARD_WEIGHT_QUADS);
    let params = WeightParams {
        rows: word(rows),
        cols: word(cols / width),
        rows_per_block: word(rows_per_block),
    };
    let bindings = [
        saved.input.into(),
        saved.inv_rms.into(),
        d_output.into(),
        partials.into(),
    ];
    let lanes = row_lanes(plan);
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", lanes)
            .workgroups([word(cols / width).div_ceil(lanes), word(blocks), 1])
            .flops(3 * d_output.len()),
    );
    sum_partials(plan, partials, d_weight, accumulate);
}
