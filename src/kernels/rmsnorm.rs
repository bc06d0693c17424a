//! Root-mean-square layer normalisation (Zhang and Sennrich 2019).

mod variants;

use super::family::choose;
use super::half::{halve, halve_into};
use super::sum::Sums;
use super::{
    Gradient, SUBGROUP_LANES, SUBGROUPS, binding, by_width, halves, row_lanes, rows_per_block,
};
use crate::gpu::dispatch::{Bound, flat_workgroups, word};
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
params!(ForwardBlockParams {
    rows: u32,
    quads: u32,
    rows_per_block: u32,
    eps: f32
});
params!(BackwardBlockParams {
    rows: u32,
    quads: u32,
    rows_per_block: u32
});

/// Normalises rows and keeps the inverse root mean square of each.
pub static FORWARD: Kernel = Kernel {
    name: "rmsnorm_forward",
    variant: PORTABLE,
    source: shader!("rmsnorm/rmsnorm_forward.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("output", Role::OutOrUnused),
        binding("inv_rms", Role::Out),
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

/// [`FORWARD`] for rows of whole quads that a subgroup can keep.
pub static FORWARD_SUBGROUP: Kernel = Kernel {
    variant: SUBGROUP,
    source: shader!("rmsnorm/rmsnorm_forward.subgroup.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("output", Role::Out),
        binding("inv_rms", Role::Out),
    ],
    params: ForwardBlockParams::LAYOUT,
    requires: SUBGROUPS,
    ..FORWARD
};

/// Gradient for the input.
pub static BACKWARD_INPUT: Kernel = Kernel {
    name: "rmsnorm_backward_input",
    variant: PORTABLE,
    source: shader!("rmsnorm/rmsnorm_backward_input.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("inv_rms", Role::In),
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

/// Gradient for the gain, one partial sum a block of rows.
pub static BACKWARD_WEIGHT: Kernel = Kernel {
    name: "rmsnorm_backward_weight",
    variant: PORTABLE,
    source: shader!("rmsnorm/rmsnorm_backward_weight.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("inv_rms", Role::In),
        binding("d_output", Role::In),
        binding("partials", Role::Out),
    ],
    params: WeightParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_WEIGHT`] for rows of whole quads.
pub static BACKWARD_WEIGHT_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_WEIGHT
};

/// Both gradients in one pass, for rows of whole quads that a subgroup can keep; the gain's as one
/// partial sum a block of rows.
pub static BACKWARD_SUBGROUP: Kernel = Kernel {
    name: "rmsnorm_backward",
    variant: SUBGROUP,
    source: shader!("rmsnorm/rmsnorm_backward.subgroup.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("weight", Role::In),
        binding("inv_rms", Role::In),
        binding("d_output", Role::In),
        binding("d_input", Role::OutOrAccumulate),
        binding("partials", Role::Out),
    ],
    params: BackwardBlockParams::LAYOUT,
    requires: SUBGROUPS,
};

/// Variant in which a subgroup keeps rows.
const SUBGROUP: &str = "subgroup";
/// Columns of the widest row that a subgroup keeps, see `subgroup_row.wgsl`.
const MOST_KEPT: usize = 1024;

/// How rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// By a workgroup that loads a row each time it needs it.
    Reloaded,
    /// By a subgroup that keeps a row, see [`FORWARD_SUBGROUP`].
    Subgroup,
}

impl Variant {
    /// Whether its kernels store rows of so many columns as halves where they are asked to.
    fn stores_halves(self, cols: usize) -> bool {
        self == Self::Reloaded && cols.is_multiple_of(4)
    }
}

/// The half of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// [`forward`].
    Forward,
    /// [`backward`].
    Backward,
}

/// What decides which kernels can normalise rows.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Which half.
    pub pass: Pass,
}

impl Use {
    fn forward(input: Tensor) -> Self {
        Self {
            rows: input.rows,
            cols: input.cols,
            pass: Pass::Forward,
        }
    }

    fn backward(d_output: Tensor) -> Self {
        Self {
            pass: Pass::Backward,
            ..Self::forward(d_output)
        }
    }
}

/// Whether a subgroup can keep a row of `cols` columns.
fn can_keep(cols: usize) -> bool {
    cols.is_multiple_of(4) && cols <= MOST_KEPT
}

/// Normalises `input` `[rows, cols]` with gain `weight` `[cols]`.
///
/// Returns the output `[rows, cols]`, which consists of `elements`, and the inverse root mean square `[rows]`.
pub fn forward(
    plan: &mut Plan,
    input: Tensor,
    weight: Tensor,
    eps: f32,
    elements: Elements,
) -> (Tensor, Tensor) {
    let variant = choose(plan, &Use::forward(input));
    forward_by(plan, variant, input, weight, eps, elements)
}

/// [`forward`] by `variant`.
///
/// # Panics
/// If the variant does not take rows of this width: a bug of the caller.
pub fn forward_by(
    plan: &mut Plan,
    variant: Variant,
    input: Tensor,
    weight: Tensor,
    eps: f32,
    elements: Elements,
) -> (Tensor, Tensor) {
    let (rows, cols) = (input.rows, input.cols);
    let stores_halves = elements == Elements::Halves && variant.stores_halves(cols);
    let inv_rms = plan.scratch("inv_rms", 1, rows);
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
    let bindings = [input.into(), weight.into(), words.into(), inv_rms.into()];
    let dispatch = match variant {
        Variant::Reloaded => {
            let (kernel, width) = by_width(cols, &FORWARD, &FORWARD_QUADS);
            let params = ForwardParams {
                rows: word(rows),
                cols: word(cols / width),
                eps,
                half_stride: word(packed.row_stride / 4),
            };
            let [input, weight, output, inv_rms] = bindings;
            let bindings = [input, weight, output, inv_rms, packed.into()];
            Dispatch::new(kernel, params, bindings)
                .constant("WORKGROUP_SIZE", row_lanes(plan))
                .constant("HALVES", stores_halves.into())
                .workgroups(flat_workgroups(rows, 1))
        }
        Variant::Subgroup => {
            let params = ForwardBlockParams {
                rows: word(rows),
                quads: word(cols / 4),
                rows_per_block: word(rows_per_block(rows)),
                eps,
            };
            by_blocks(&FORWARD_SUBGROUP, params, bindings, input)
        }
    };
    plan.push(dispatch.flops(4 * input.len()));
    let output = match elements {
        Elements::Words => words,
        Elements::Halves if stores_halves => packed,
        Elements::Halves => halve(plan, words, None),
    };
    (output, inv_rms)
}

/// A launch of `kernel` with a subgroup for each block of `rows`, which are whole quads.
fn by_blocks<const N: usize>(
    kernel: &'static Kernel,
    params: impl bytemuck::NoUninit,
    bindings: [Bound; N],
    rows: Tensor,
) -> Dispatch {
    assert!(can_keep(rows.cols), "a subgroup keeps such rows");
    let quads = word(rows.cols / 4);
    let blocks = rows.rows.div_ceil(rows_per_block(rows.rows));
    Dispatch::new(kernel, params, bindings)
        .constant("QUADS_A_LANE", quads.div_ceil(SUBGROUP_LANES))
        .constant("RAGGED", (!quads.is_multiple_of(SUBGROUP_LANES)).into())
        .workgroups([word(blocks), 1, 1])
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// `[rows, cols]`.
    pub input: Tensor,
    /// `[rows]`.
    pub inv_rms: Tensor,
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
    /// `[rows, cols]` of halves: receives what is in `d_input` then.
    pub halves: Option<Tensor>,
}

/// Computes the gradients for the input and, where it is wanted, for the gain, which is whole when `sums` is
/// flushed.
pub fn backward(
    plan: &mut Plan,
    saved: Saved,
    weight: Tensor,
    gradients: Gradients,
    sums: &mut Sums,
) {
    let variant = choose(plan, &Use::backward(gradients.d_output));
    backward_by(plan, variant, saved, weight, gradients, sums);
}

/// [`backward`] by `variant`.
///
/// # Panics
/// If the variant does not take rows of this width: a bug of the caller.
pub fn backward_by(
    plan: &mut Plan,
    variant: Variant,
    saved: Saved,
    weight: Tensor,
    gradients: Gradients,
    sums: &mut Sums,
) {
    let Gradients {
        d_output,
        d_input,
        d_weight,
        halves,
    } = gradients;
    let stored = halves.filter(|halves| variant.stores_halves(halves.cols));
    match variant {
        Variant::Reloaded => {
            if let Some(d_weight) = d_weight {
                backward_weight(plan, saved, d_output, d_weight, sums);
            }
            backward_input(plan, saved, weight, d_output, d_input, stored);
        }
        Variant::Subgroup => backward_by_subgroup(plan, saved, weight, gradients, sums),
    }
    if let (Some(halves), None) = (halves, stored) {
        halve_into(plan, d_input.tensor, None, halves);
    }
}

fn backward_by_subgroup(
    plan: &mut Plan,
    saved: Saved,
    weight: Tensor,
    gradients: Gradients,
    sums: &mut Sums,
) {
    let d_output = gradients.d_output;
    let (rows, cols) = (d_output.rows, d_output.cols);
    let rows_per_block = rows_per_block(rows);
    let partials = plan.scratch("gain_sums", rows.div_ceil(rows_per_block), cols);
    let params = BackwardBlockParams {
        rows: word(rows),
        quads: word(cols / 4),
        rows_per_block: word(rows_per_block),
    };
    let bindings = [
        saved.input.into(),
        weight.into(),
        saved.inv_rms.into(),
        d_output.into(),
        gradients.d_input.tensor.into(),
        partials.into(),
    ];
    plan.push(
        by_blocks(&BACKWARD_SUBGROUP, params, bindings, d_output)
            .constant("ACCUMULATE", gradients.d_input.accumulate.into())
            .flops(11 * d_output.len()),
    );
    if let Some(d_weight) = gradients.d_weight {
        sums.add(plan, partials, d_weight.tensor, d_weight.accumulate);
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
        saved.inv_rms.into(),
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
            .flops(8 * d_output.len()),
    );
}

/// Computes the gradient for the gain `[cols]`, which is whole when `sums` is flushed.
pub fn backward_weight(
    plan: &mut Plan,
    saved: Saved,
    d_output: Tensor,
    d_weight: Gradient,
    sums: &mut Sums,
) {
    let (rows, cols) = (d_output.rows, d_output.cols);
    let rows_per_block = rows_per_block(rows);
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
    sums.add(plan, partials, d_weight.tensor, d_weight.accumulate);
}
