//! Softmax of rows, for the sampler; attention and cross-entropy carry their own, fused.

use super::{binding, row_lanes};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::plan::{flat_workgroups, word};
use crate::gpu::{Dispatch, Kernel, Plan, Requirement, Role, Tensor};
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
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
        shader!("shared/reduce_max.wgsl"),
        shader!("shared/most_negative.wgsl"),
    ],
    bindings: &[binding("input", Role::In), binding("output", Role::Out)],
    params: SoftmaxParams::LAYOUT,
    requires: Requirement::Portable,
};

/// Gradient for the input from the output and its gradient.
pub static BACKWARD: Kernel = Kernel {
    name: "softmax_backward",
    variant: PORTABLE,
    source: shader!("softmax_backward.wgsl"),
    shared: &[
        shader!("shared/flat_workgroup.wgsl"),
        shader!("shared/reduce_sum.wgsl"),
    ],
    bindings: &[
        binding("output", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::Out),
    ],
    params: SoftmaxParams::LAYOUT,
    requires: Requirement::Portable,
};

/// Softmax of each row of `input` `[rows, cols]`.
pub fn forward(plan: &mut Plan, input: Tensor) -> Tensor {
    let output = plan.scratch("probabilities", input.rows, input.cols);
    let params = SoftmaxParams {
        rows: word(input.rows),
        cols: word(input.cols),
    };
    plan.push(
        Dispatch::new(&FORWARD, params, [input.into(), output.into()])
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .workgroups(flat_workgroups(input.rows, 1))
            .flops(5 * input.len()),
    );
    output
}

/// Gradient for the input `[rows, cols]`.
pub fn backward(plan: &mut Plan, output: Tensor, d_output: Tensor) -> Tensor {
    let d_input = plan.scratch("d_softmax", output.rows, output.cols);
    let params = SoftmaxParams {
        rows: word(output.rows),
        cols: word(output.cols),
    };
    plan.push(
        Dispatch::new(
            &BACKWARD,
            params,
            [output.into(), d_output.into(), d_input.into()],
        )
        .constant("WORKGROUP_SIZE", row_lanes(plan))
        .workgroups(flat_workgroups(output.rows, 1))
        .flops(4 * output.len()),
    );
    d_input
}
