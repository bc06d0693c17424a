//! Gated linear unit with SiLU (Shazeer 2020), of a gate and its up side by side in the rows of one tensor.

use super::{FLAT_LANES, binding, by_width};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SwigluParams {
    rows: u32,
    cols: u32,
    stride: u32,
    up_first: u32,
    hidden_stride: u32,
});

/// `silu(gate) * up`.
pub static FORWARD: Kernel = Kernel {
    name: "swiglu_forward",
    variant: PORTABLE,
    source: shader!("swiglu_forward.wgsl"),
    bindings: &[binding("gate_up", Role::In), binding("output", Role::Out)],
    params: SwigluParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Gradients for gate and up.
pub static BACKWARD: Kernel = Kernel {
    name: "swiglu_backward",
    variant: PORTABLE,
    source: shader!("swiglu_backward.wgsl"),
    bindings: &[
        binding("gate_up", Role::In),
        binding("d_output", Role::In),
        binding("d_gate_up", Role::Out),
    ],
    params: SwigluParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD`] for rows of whole quads.
pub static BACKWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD
};

/// Writes `silu(gate) * up` to `output` `[rows, cols]`, for the gate in the first `cols` columns of `gate_up`
/// and up in those from `up_first` on.
pub fn forward_into(plan: &mut Plan, gate_up: Tensor, up_first: usize, output: Tensor) {
    let kernels = [&FORWARD, &FORWARD_QUADS];
    push(plan, kernels, [gate_up, output], up_first, output, 5);
}

/// Gradients for gate and up, which lie as `gate_up` does, from that of `silu(gate) * up`.
pub fn backward(plan: &mut Plan, gate_up: Tensor, up_first: usize, d_output: Tensor) -> Tensor {
    let d_gate_up = plan.scratch_like("d_gate_up", gate_up);
    let kernels = [&BACKWARD, &BACKWARD_QUADS];
    let tensors = [gate_up, d_output, d_gate_up];
    push(plan, kernels, tensors, up_first, d_output, 10);
    d_gate_up
}

/// A lane a quad or a word of `hidden`, in as many launches as the bindings ask for.
fn push<const N: usize>(
    plan: &mut Plan,
    [words, quads]: [&'static Kernel; 2],
    tensors: [Tensor; N],
    up_first: usize,
    hidden: Tensor,
    flops_per_element: usize,
) {
    let stride = tensors[0].row_stride;
    let columns = hidden.cols | hidden.row_stride | stride | up_first;
    let (kernel, width) = by_width(columns, words, quads);
    for rows in plan.row_blocks(&tensors, 1) {
        let cols = hidden.cols / width;
        let params = SwigluParams {
            rows: word(rows.len()),
            cols: word(cols),
            stride: word(stride / width),
            up_first: word(up_first / width),
            hidden_stride: word(hidden.row_stride / width),
        };
        let bindings = tensors.map(|t| t.slice_rows(rows.start, rows.len()).into());
        plan.push(
            Dispatch::new(kernel, params, bindings)
                .workgroups(flat_workgroups(rows.len() * cols, FLAT_LANES))
                .flops(flops_per_element * rows.len() * hidden.cols),
        );
    }
}
