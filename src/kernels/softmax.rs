//! Softmax of rows; attention, cross-entropy and the sampler carry their own, fused.

use super::{binding, row_lanes};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SoftmaxParams {
    rows: u32,
    cols: u32
});

/// Softmax of each row.
pub static FORWARD: Kernel = Kernel {
    name: "softmax_forward",
    variant: PORTABLE,
    source: shader!("softmax_forward.wgsl"),
    bindings: &[binding("input", Role::In), binding("output", Role::Out)],
    params: SoftmaxParams::LAYOUT,
    requires: &[],
};

/// Gradient for the input from the output and its gradient.
pub static BACKWARD: Kernel = Kernel {
    name: "softmax_backward",
    variant: PORTABLE,
    source: shader!("softmax_backward.wgsl"),
    bindings: &[
        binding("output", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::Out),
    ],
    params: SoftmaxParams::LAYOUT,
    requires: &[],
};

/// Softmax of each row of `input` `[rows, cols]`.
pub fn forward(plan: &mut Plan, input: Tensor) -> Tensor {
    let output = plan.scratch("probabilities", input.rows, input.cols);
    push(plan, &FORWARD, [input, output], 5);
    output
}

/// Gradient for the input `[rows, cols]`.
pub fn backward(plan: &mut Plan, output: Tensor, d_output: Tensor) -> Tensor {
    let d_input = plan.scratch("d_softmax", output.rows, output.cols);
    push(plan, &BACKWARD, [output, d_output, d_input], 4);
    d_input
}

/// A workgroup a row, in as many launches as the bindings ask for.
fn push<const N: usize>(
    plan: &mut Plan,
    kernel: &'static Kernel,
    tensors: [Tensor; N],
    flops_per_element: usize,
) {
    for rows in plan.row_blocks(&tensors, 1) {
        let blocks = tensors.map(|t| t.slice_rows(rows.start, rows.len()));
        let params = SoftmaxParams {
            rows: word(rows.len()),
            cols: word(blocks[0].cols),
        };
        plan.push(
            Dispatch::new(kernel, params, blocks.map(Tensor::into))
                .constant("WORKGROUP_SIZE", row_lanes(plan))
                .workgroups(flat_workgroups(rows.len(), 1))
                .flops(flops_per_element * blocks[0].len()),
        );
    }
}
