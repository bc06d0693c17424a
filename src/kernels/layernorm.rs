//! Layer normalisation with gain and bias (Ba, Kiros and Hinton 2016).

use super::half::{halve, halve_into};
use super::sum::Sums;
use super::{Gradient, binding, by_width, halves, row_lanes, rows_per_block};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Elements, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(ForwardParams {
    rows: u32,
    cols: u32,
    eps: f32,
    half_stride: u32
});
params!(InputParams {
    rows: u32,
    cols: u32,
    half_stride: u32
});
params!(WeightParams {
    rows: u32,
    cols: u32,
    rows_per_block: u32
});

/// Normalises rows and keeps the statistics of each.
pub static FORWARD: Kernel = Kernel {
    name: "layernorm_forward",
    variant: PORTABLE,
    source: shader!("layernorm/layernorm_forward.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("bias", Role::In),
        binding("output", Role::OutOrUnused),
        binding("statistics", Role::Out),
        halves("halves", Role::OutOrUnused),
    ],
    params: ForwardParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Gradient for the input.
pub static BACKWARD_INPUT: Kernel = Kernel {
    name: "layernorm_backward_input",
    variant: PORTABLE,
    source: shader!("layernorm/layernorm_backward_input.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("statistics", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::OutOrAccumulate),
        halves("halves", Role::OutOrUnused),
    ],
    params: InputParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_INPUT`] for rows of whole quads.
pub static BACKWARD_INPUT_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_INPUT
};

/// Gradients for gain and bias, one partial sum of each a block of rows.
pub static BACKWARD_WEIGHT: Kernel = Kernel {
    name: "layernorm_backward_weight",
    variant: PORTABLE,
    source: shader!("layernorm/layernorm_backward_weight.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("statistics", Role::In),
        binding("d_output", Role::In),
        binding("weight_partials", Role::Out),
        binding("bias_partials", Role::Out),
    ],
    params: WeightParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_WEIGHT`] for rows of whole quads.
pub static BACKWARD_WEIGHT_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_WEIGHT
};

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// `[rows, cols]`.
    pub input: Tensor,
    /// `[rows, 3]`: the mean, what was rounded off it, and the inverse standard deviation.
    pub statistics: Tensor,
}

/// What comes to the layer and what goes on from it.
#[derive(Clone, Copy, Debug)]
pub struct Gradients {
    /// `[rows, cols]`.
    pub d_output: Tensor,
    /// `[rows, cols]`.
    pub d_input: Gradient,
    /// `[cols]`; none for a gain that stays as it is.
    pub d_weight: Option<Gradient>,
    /// `[cols]`; none for a bias that stays as it is.
    pub d_bias: Option<Gradient>,
    /// `[rows, cols]` of halves: receives what is in `d_input` then.
    pub halves: Option<Tensor>,
}

/// Normalises `input` `[rows, cols]` with gain `weight` `[cols]` and `bias` `[cols]`, for the biased variance plus
/// `eps`.
///
/// Returns the output `[rows, cols]`, which consists of `elements`, and what [`backward`] needs.
pub fn forward(
    plan: &mut Plan,
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: f32,
    elements: Elements,
) -> (Tensor, Saved) {
    let (rows, cols) = (input.rows, input.cols);
    let stores_halves = elements == Elements::Halves && can_store_halves(cols);
    let statistics = plan.scratch("statistics", rows, 3);
    let (words, packed) = if stores_halves {
        (
            plan.scratch("unused", 1, 4),
            plan.scratch_halves("normed", rows, cols),
        )
    } else {
        (
            plan.scratch("normed", rows, cols),
            plan.scratch_halves("unused", 1, 1),
        )
    };
    let (kernel, width) = by_width(cols, &FORWARD, &FORWARD_QUADS);
    let params = ForwardParams {
        rows: word(rows),
        cols: word(cols / width),
        eps,
        half_stride: word(packed.row_stride / 4),
    };
    let tensors = [input, weight, bias, words, statistics, packed];
    plan.push(
        Dispatch::new(kernel, params, tensors.map(Tensor::into))
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .constant("HALVES", stores_halves.into())
            .workgroups(flat_workgroups(rows, 1))
            .flops(10 * input.len()),
    );
    let output = match elements {
        Elements::Words => words,
        Elements::Halves if stores_halves => packed,
        Elements::Halves => halve(plan, words, None),
    };
    (output, Saved { input, statistics })
}

/// Whether the kernels store rows of so many columns as halves where they are asked to.
fn can_store_halves(cols: usize) -> bool {
    cols.is_multiple_of(4)
}

/// Computes the gradients for the input and, where they are wanted, for gain and bias, which are whole when `sums`
/// is flushed.
pub fn backward(
    plan: &mut Plan,
    saved: Saved,
    weight: Tensor,
    gradients: Gradients,
    sums: &mut Sums,
) {
    let Gradients {
        d_output,
        d_input,
        d_weight,
        d_bias,
        halves,
    } = gradients;
    if d_weight.is_some() || d_bias.is_some() {
        backward_weight(plan, saved, d_output, [d_weight, d_bias], sums);
    }
    let stored = halves.filter(|halves| can_store_halves(halves.cols));
    backward_input(plan, saved, weight, d_output, d_input, stored);
    if let (Some(halves), None) = (halves, stored) {
        halve_into(plan, d_input.tensor, None, halves);
    }
}

/// Computes the gradient for the input `[rows, cols]`, of whole quads if it is kept as halves too.
pub fn backward_input(
    plan: &mut Plan,
    saved: Saved,
    weight: Tensor,
    d_output: Tensor,
    d_input: Gradient,
    halves: Option<Tensor>,
) {
    let packed = halves.unwrap_or_else(|| plan.scratch_halves("unused", 1, 1));
    let (kernel, width) = by_width(d_output.cols, &BACKWARD_INPUT, &BACKWARD_INPUT_QUADS);
    let params = InputParams {
        rows: word(d_output.rows),
        cols: word(d_output.cols / width),
        half_stride: word(packed.row_stride / 4),
    };
    let bindings = [
        saved.input.into(),
        weight.into(),
        saved.statistics.into(),
        d_output.into(),
        d_input.tensor.into(),
        packed.into(),
    ];
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .constant("ACCUMULATE", d_input.accumulate.into())
            .constant("HALVES", halves.is_some().into())
            .workgroups(flat_workgroups(d_output.rows, 1))
            .flops(12 * d_output.len()),
    );
}

/// Computes the gradients for gain and bias, `[cols]` each, of which those that are wanted are whole when `sums` is
/// flushed.
pub fn backward_weight(
    plan: &mut Plan,
    saved: Saved,
    d_output: Tensor,
    [d_weight, d_bias]: [Option<Gradient>; 2],
    sums: &mut Sums,
) {
    let (rows, cols) = (d_output.rows, d_output.cols);
    let rows_per_block = rows_per_block(rows);
    let blocks = rows.div_ceil(rows_per_block);
    let weight_partials = plan.scratch("gain_sums", blocks, cols);
    let bias_partials = plan.scratch("bias_sums", blocks, cols);
    let (kernel, width) = by_width(cols, &BACKWARD_WEIGHT, &BACKWARD_WEIGHT_QUADS);
    let params = WeightParams {
        rows: word(rows),
        cols: word(cols / width),
        rows_per_block: word(rows_per_block),
    };
    let bindings = [
        saved.input.into(),
        saved.statistics.into(),
        d_output.into(),
        weight_partials.into(),
        bias_partials.into(),
    ];
    let lanes = row_lanes(plan);
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", lanes)
            .workgroups([word(cols / width).div_ceil(lanes), word(blocks), 1])
            .flops(6 * d_output.len()),
    );
    for (partials, gradient) in [(weight_partials, d_weight), (bias_partials, d_bias)] {
        if let Some(Gradient { tensor, accumulate }) = gradient {
            sums.add(plan, partials, tensor, accumulate);
        }
    }
}
