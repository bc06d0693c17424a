//! Sums over a leading axis: the last stage of split reductions.

use super::{FLAT_LANES, binding, by_width};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SumParams {
    partials: u32,
    len: u32
});

/// Adds partial results in a fixed order.
pub static PARTIALS: Kernel = Kernel {
    name: "sum_partials",
    variant: PORTABLE,
    source: shader!("sum_partials.wgsl"),
    bindings: &[
        binding("partials", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: SumParams::LAYOUT,
    requires: &[],
};

/// [`PARTIALS`] for rows of whole quads.
pub static PARTIALS_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..PARTIALS
};

/// Sums `partials` `[count, len]` over its rows into `output`, of `len` elements; overwrites it
/// unless `accumulate`.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn sum_partials(plan: &mut Plan, partials: Tensor, output: Tensor, accumulate: bool) {
    assert_eq!(
        partials.cols,
        output.len(),
        "one partial result fills the output"
    );
    let (kernel, width) = by_width(output.len(), &PARTIALS, &PARTIALS_QUADS);
    let params = SumParams {
        partials: word(partials.rows),
        len: word(output.len() / width),
    };
    plan.push(
        Dispatch::new(kernel, params, [partials.into(), output.into()])
            .constant("ACCUMULATE", accumulate.into())
            .workgroups(flat_workgroups(output.len() / width, FLAT_LANES))
            .flops(partials.len()),
    );
}
