//! Root-mean-square normalisation of each head of queries and keys (Henry et al. 2020, "Query-Key Normalization for
//! Transformers"), with one gain for all heads of queries and one for all of keys, as Qwen3 has it.

mod tables;

pub use tables::*;

use super::attention::Qkv;
use super::sum::Sums;
use super::{Gradient, by_width, row_lanes, rows_per_block};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::{AdapterClass, Dispatch, Plan, Tensor};
use crate::params;

params!(ForwardParams {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,
    value_first: u32,
    stride: u32,
    eps: f32
});
params!(InputParams {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,
    stride: u32,
    d_stride: u32
});
params!(WeightParams {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,
    stride: u32,
    d_stride: u32,
    rows_per_block: u32,
    first_block: u32,
});

/// The heads of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadNormShape {
    /// Heads of queries.
    pub num_heads: usize,
    /// Heads of keys, and as many of values.
    pub num_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl HeadNormShape {
    /// Heads that are normed.
    fn normed_heads(self) -> usize {
        self.num_heads + self.num_kv_heads
    }
}

/// The gains, `[head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct Gains {
    /// Of every head of queries.
    pub query: Tensor,
    /// Of every head of keys.
    pub key: Tensor,
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// `[rows, queries, keys and values]` before they were normed.
    pub projected: Qkv,
    /// `[rows, num_heads + num_kv_heads]`.
    pub inv_rms: Tensor,
    /// The heads of a row.
    pub shape: HeadNormShape,
}

/// What comes to the layer and what goes on from it.
#[derive(Clone, Copy, Debug)]
pub struct Gradients {
    /// `[rows, queries, keys and values]`, with the columns of what was projected: the gradient for what was normed,
    /// and then that for what was projected.
    pub d_normed: Tensor,
    /// `[head_dim]`; none for a gain that stays as it is.
    pub d_query_gain: Option<Gradient>,
    /// `[head_dim]`; none for a gain that stays as it is.
    pub d_key_gain: Option<Gradient>,
}

/// Lanes of a head: software adapters pay more for a barrier than for all loads of a head.
fn head_lanes(plan: &Plan) -> u32 {
    match plan.class() {
        AdapterClass::Gpu => 8,
        AdapterClass::Software => 1,
    }
}

/// Normalises each head of queries and keys of `projected` with its gain, and copies values.
///
/// Returns all three in a tensor that lies as `projected` does, and what [`backward`] needs.
pub fn forward(
    plan: &mut Plan,
    projected: Qkv,
    shape: HeadNormShape,
    gains: Gains,
    eps: f32,
) -> (Qkv, Saved) {
    let input = projected.tensor;
    let normed = plan.scratch_like("normed_heads", input);
    let inv_rms = plan.scratch("inv_rms", input.rows, shape.normed_heads());
    let columns = columns_of(projected, shape);
    let (kernel, width) = by_width(columns, &FORWARD, &FORWARD_QUADS);
    let heads = shape.normed_heads() + shape.num_kv_heads;
    for rows in plan.row_blocks(&[input, normed, inv_rms], 1) {
        let params = ForwardParams {
            rows: word(rows.len()),
            num_heads: word(shape.num_heads),
            num_kv_heads: word(shape.num_kv_heads),
            head_elements: word(shape.head_dim / width),
            key_first: word(projected.key_first / width),
            value_first: word(projected.value_first / width),
            stride: word(input.row_stride / width),
            eps,
        };
        let [input, normed, inv_rms] =
            [input, normed, inv_rms].map(|t| t.slice_rows(rows.start, rows.len()));
        let tensors = [input, gains.query, gains.key, normed, inv_rms];
        let dispatch = Dispatch::new(kernel, params, tensors.map(Tensor::into));
        push_by_heads(plan, dispatch, rows.len() * heads, 4 * shape.head_dim);
    }
    let normed = Qkv {
        tensor: normed,
        ..projected
    };
    let saved = Saved {
        projected,
        inv_rms,
        shape,
    };
    (normed, saved)
}

/// Numbers that are all multiples of four where heads can be taken by quads, or-ed.
fn columns_of(projected: Qkv, shape: HeadNormShape) -> usize {
    let Qkv {
        tensor,
        key_first,
        value_first,
    } = projected;
    shape.head_dim | key_first | value_first | tensor.row_stride
}

/// Pushes a launch with some lanes for each of `heads` heads.
fn push_by_heads(plan: &mut Plan, dispatch: Dispatch, heads: usize, flops_per_head: usize) {
    let (lanes, per_head) = (row_lanes(plan), head_lanes(plan));
    let per_group = (lanes / per_head) as usize;
    plan.push(
        dispatch
            .constant("WORKGROUP_SIZE", lanes)
            .constant("HEAD_LANES", per_head)
            .workgroups(flat_workgroups(heads, per_group))
            .flops(heads * flops_per_head),
    );
}

/// Turns the gradient for what was normed into that for what was projected, in place, where that of the values stays.
/// Those for the gains that are wanted are whole when `sums` is flushed.
pub fn backward(
    plan: &mut Plan,
    saved: Saved,
    gains: Gains,
    gradients: Gradients,
    sums: &mut Sums,
) {
    let Gradients {
        d_normed,
        d_query_gain,
        d_key_gain,
    } = gradients;
    // First, since the other overwrites what it reads.
    if d_query_gain.is_some() || d_key_gain.is_some() {
        backward_weight(plan, saved, d_normed, [d_query_gain, d_key_gain], sums);
    }
    backward_input(plan, saved, gains, d_normed);
}

/// Turns the gradient `d_normed` for what was normed into that for what was projected, in place.
pub fn backward_input(plan: &mut Plan, saved: Saved, gains: Gains, d_normed: Tensor) {
    let Saved {
        projected,
        inv_rms,
        shape,
    } = saved;
    let input = projected.tensor;
    let columns = columns_of(projected, shape) | d_normed.row_stride;
    let (kernel, width) = by_width(columns, &BACKWARD_INPUT, &BACKWARD_INPUT_QUADS);
    for rows in plan.row_blocks(&[input, d_normed, inv_rms], 1) {
        let params = InputParams {
            rows: word(rows.len()),
            num_heads: word(shape.num_heads),
            num_kv_heads: word(shape.num_kv_heads),
            head_elements: word(shape.head_dim / width),
            key_first: word(projected.key_first / width),
            stride: word(input.row_stride / width),
            d_stride: word(d_normed.row_stride / width),
        };
        let [input, d_normed, inv_rms] =
            [input, d_normed, inv_rms].map(|t| t.slice_rows(rows.start, rows.len()));
        let tensors = [input, gains.query, gains.key, inv_rms, d_normed];
        let dispatch = Dispatch::new(kernel, params, tensors.map(Tensor::into));
        let heads = rows.len() * shape.normed_heads();
        push_by_heads(plan, dispatch, heads, 8 * shape.head_dim);
    }
}

/// Computes the gradients for both gains, of which those that are wanted are whole when `sums` is flushed.
pub fn backward_weight(
    plan: &mut Plan,
    saved: Saved,
    d_normed: Tensor,
    [d_query_gain, d_key_gain]: [Option<Gradient>; 2],
    sums: &mut Sums,
) {
    let Saved {
        projected,
        inv_rms,
        shape,
    } = saved;
    let input = projected.tensor;
    let columns = columns_of(projected, shape) | d_normed.row_stride;
    let (kernel, width) = by_width(columns, &BACKWARD_WEIGHT, &BACKWARD_WEIGHT_QUADS);
    let rows_per_block = rows_per_block(input.rows);
    let parts = plan.row_blocks(&[input, d_normed, inv_rms], 1);
    let blocks_of = |rows: usize| rows.div_ceil(rows_per_block);
    let blocks = parts.iter().map(|part| blocks_of(part.len())).sum();
    let [query_partials, key_partials] =
        [(); 2].map(|()| plan.scratch("gain_sums", blocks, shape.head_dim));
    let lanes = row_lanes(plan);
    let mut first_block = 0;
    for rows in parts {
        let blocks = blocks_of(rows.len());
        let params = WeightParams {
            rows: word(rows.len()),
            num_heads: word(shape.num_heads),
            num_kv_heads: word(shape.num_kv_heads),
            head_elements: word(shape.head_dim / width),
            key_first: word(projected.key_first / width),
            stride: word(input.row_stride / width),
            d_stride: word(d_normed.row_stride / width),
            rows_per_block: word(rows_per_block),
            first_block: word(first_block),
        };
        let [input, inv_rms, d_normed] =
            [input, inv_rms, d_normed].map(|t| t.slice_rows(rows.start, rows.len()));
        let tensors = [input, inv_rms, d_normed, query_partials, key_partials];
        let columns = word(2 * shape.head_dim / width);
        let elements = rows.len() * shape.normed_heads() * shape.head_dim;
        plan.push(
            Dispatch::new(kernel, params, tensors.map(Tensor::into))
                .constant("WORKGROUP_SIZE", lanes)
                .workgroups([columns.div_ceil(lanes), word(blocks), 1])
                .flops(3 * elements),
        );
        first_block += blocks;
    }
    for (partials, gradient) in [(query_partials, d_query_gain), (key_partials, d_key_gain)] {
        if let Some(Gradient { tensor, accumulate }) = gradient {
            sums.add(plan, partials, tensor, accumulate);
        }
    }
}
