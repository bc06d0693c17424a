//! Gaussian error linear unit in the form by tanh (Hendrycks and Gimpel 2016), as GPT-2 has it.

use super::{FLAT_LANES, binding, by_width};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(ForwardParams {
    rows: u32,
    cols: u32,
    stride: u32,
    output_stride: u32
});
params!(BackwardParams {
    rows: u32,
    cols: u32,
    stride: u32,
    d_output_stride: u32
});

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub static FORWARD: Kernel = Kernel {
    name: "gelu_forward",
    variant: PORTABLE,
    source: shader!("gelu/gelu_forward.wgsl"),
    bindings: &[binding("input", Role::In), binding("output", Role::Out)],
    params: ForwardParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Gradient for the input.
pub static BACKWARD: Kernel = Kernel {
    name: "gelu_backward",
    variant: PORTABLE,
    source: shader!("gelu/gelu_backward.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::Out),
    ],
    params: BackwardParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD`] for rows of whole quads.
pub static BACKWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD
};

/// Writes `gelu(input)` to `output`, both `[rows, cols]` and perhaps with gaps between rows.
pub fn forward_into(plan: &mut Plan, input: Tensor, output: Tensor) {
    let columns = input.cols | input.row_stride | output.row_stride;
    let (kernel, width) = by_width(columns, &FORWARD, &FORWARD_QUADS);
    for rows in plan.row_blocks(&[input, output], 1) {
        let cols = input.cols / width;
        let params = ForwardParams {
            rows: word(rows.len()),
            cols: word(cols),
            stride: word(input.row_stride / width),
            output_stride: word(output.row_stride / width),
        };
        let bindings = [input, output].map(|t| t.slice_rows(rows.start, rows.len()).into());
        plan.push(
            Dispatch::new(kernel, params, bindings)
                .workgroups(flat_workgroups(rows.len() * cols, FLAT_LANES))
                .flops(8 * rows.len() * input.cols),
        );
    }
}

/// The gradient for the input, which lies as `input` does, from that of its GELU, which may have gaps between rows.
pub fn backward(plan: &mut Plan, input: Tensor, d_output: Tensor) -> Tensor {
    let d_input = plan.scratch_like("d_input", input);
    let columns = input.cols | input.row_stride | d_output.row_stride;
    let (kernel, width) = by_width(columns, &BACKWARD, &BACKWARD_QUADS);
    let tensors = [input, d_output, d_input];
    for rows in plan.row_blocks(&tensors, 1) {
        let cols = input.cols / width;
        let params = BackwardParams {
            rows: word(rows.len()),
            cols: word(cols),
            stride: word(input.row_stride / width),
            d_output_stride: word(d_output.row_stride / width),
        };
        let bindings = tensors.map(|t| t.slice_rows(rows.start, rows.len()).into());
        plan.push(
            Dispatch::new(kernel, params, bindings)
                .workgroups(flat_workgroups(rows.len() * cols, FLAT_LANES))
                .flops(17 * rows.len() * input.cols),
        );
    }
    d_input
}
