//! Biases: one row that is added to all, or one for each position of a sequence.

use super::sum::Sums;
use super::{FLAT_LANES, Gradient, binding, by_width, rows_per_block};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(ForwardParams {
    rows: u32,
    cols: u32,
    stride: u32,
    first: u32,
    period: u32
});
params!(BackwardParams {
    rows: u32,
    cols: u32,
    stride: u32,
    first: u32,
    period: u32,
    repetitions_per_block: u32,
    blocks: u32,
    first_block: u32,
});

/// Adds a bias in place.
pub static FORWARD: Kernel = Kernel {
    name: "bias_forward",
    variant: PORTABLE,
    source: shader!("bias_forward.wgsl"),
    bindings: &[binding("bias", Role::In), binding("values", Role::InOut)],
    params: ForwardParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Gradient for a bias, one partial sum a block of rows.
pub static BACKWARD: Kernel = Kernel {
    name: "bias_backward",
    variant: PORTABLE,
    source: shader!("bias_backward.wgsl"),
    bindings: &[
        binding("d_output", Role::In),
        binding("partials", Role::Out),
    ],
    params: BackwardParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD`] for rows of whole quads.
pub static BACKWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD
};

/// Adds `bias` `[period, cols]` in place to as many columns of `values` from `first` on, which need not be one where
/// a tensor can be bound: to each row that of its number modulo the period. One row is a bias, one for each position
/// of a sequence is a position embedding.
///
/// # Panics
/// If there are no such columns, or the bias has gaps: a bug of the caller.
pub fn forward(plan: &mut Plan, values: Tensor, first: usize, bias: Tensor) {
    assert!(
        bias.is_dense() && first + bias.cols <= values.cols,
        "{bias:?}"
    );
    let columns = bias.cols | first | values.row_stride;
    let (kernel, width) = by_width(columns, &FORWARD, &FORWARD_QUADS);
    for rows in plan.row_blocks(&[values], bias.rows) {
        let cols = bias.cols / width;
        let params = ForwardParams {
            rows: word(rows.len()),
            cols: word(cols),
            stride: word(values.row_stride / width),
            first: word(first / width),
            period: word(bias.rows),
        };
        let values = values.slice_rows(rows.start, rows.len());
        plan.push(
            Dispatch::new(kernel, params, [bias.into(), values.into()])
                .workgroups(flat_workgroups(rows.len() * cols, FLAT_LANES))
                .flops(rows.len() * bias.cols),
        );
    }
}

/// Computes the gradient for a bias `[period, cols]` from as many columns of `d_output` from `first` on; it is whole
/// when `sums` is flushed.
///
/// # Panics
/// If there are no such columns: a bug of the caller.
pub fn backward(
    plan: &mut Plan,
    d_output: Tensor,
    first: usize,
    d_bias: Gradient,
    sums: &mut Sums,
) {
    let Gradient { tensor, accumulate } = d_bias;
    let (period, cols) = (tensor.rows, tensor.cols);
    assert!(first + cols <= d_output.cols, "{tensor:?} of {d_output:?}");
    let columns = cols | first | d_output.row_stride;
    let (kernel, width) = by_width(columns, &BACKWARD, &BACKWARD_QUADS);
    let per_block = rows_per_block(d_output.rows.div_ceil(period));
    let blocks_of = |rows: usize| rows.div_ceil(period * per_block);
    let parts = plan.row_blocks(&[d_output], period);
    let blocks = parts.iter().map(|part| blocks_of(part.len())).sum();
    let partials = plan.scratch("bias_sums", blocks, period * cols);
    let mut first_block = 0;
    for rows in parts {
        let blocks = blocks_of(rows.len());
        let params = BackwardParams {
            rows: word(rows.len()),
            cols: word(cols / width),
            stride: word(d_output.row_stride / width),
            first: word(first / width),
            period: word(period),
            repetitions_per_block: word(per_block),
            blocks: word(blocks),
            first_block: word(first_block),
        };
        let d_output = d_output.slice_rows(rows.start, rows.len());
        let lanes = blocks * period * cols / width;
        plan.push(
            Dispatch::new(kernel, params, [d_output.into(), partials.into()])
                .workgroups(flat_workgroups(lanes, FLAT_LANES))
                .flops(rows.len() * cols),
        );
        first_block += blocks;
    }
    sums.add(plan, partials, tensor, accumulate);
}
