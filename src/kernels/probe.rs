//! Probes of an adapter's ceilings: small kernels that do one thing as fast as WGSL lets them.
//! No model runs them; `bench` measures the others against them.

use super::{FLAT_LANES, binding};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(FmaParams {
    len: u32,
    iterations: u32,
    factor: f32,
    term: f32
});
params!(CopyParams { quads: u32 });
params!(WorkgroupParams { iterations: u32 });

/// Multiply-adds in registers.
pub static FMA: Kernel = Kernel {
    name: "probe_fma",
    variant: PORTABLE,
    source: shader!("probe/probe_fma.wgsl"),
    bindings: &[binding("input", Role::In), binding("output", Role::Out)],
    params: FmaParams::LAYOUT,
    requires: &[],
};

/// A copy from one buffer to another.
pub static COPY: Kernel = Kernel {
    name: "probe_copy",
    source: shader!("probe/probe_copy.wgsl"),
    params: CopyParams::LAYOUT,
    ..FMA
};

/// Loads from workgroup memory.
pub static WORKGROUP: Kernel = Kernel {
    name: "probe_workgroup",
    source: shader!("probe/probe_workgroup.wgsl"),
    params: WorkgroupParams::LAYOUT,
    ..FMA
};

/// Multiply-adds of a lane in one iteration of [`fma`].
pub const FMAS_PER_ITERATION: usize = 64;
/// Elements that [`workgroup`] keeps in workgroup memory.
pub const TILE: usize = 1024;
/// Loads of a lane in one iteration of [`workgroup`].
pub const LOADS_PER_ITERATION: usize = 8;
/// What [`fma`] multiplies with and adds.
pub const FACTOR_AND_TERM: (f32, f32) = (0.75, 0.125);

/// Starts eight chains at each element of `input` plus 0 to 7, multiplies by the factor and adds
/// the term eight times an iteration, and returns the sum of each element's chains.
pub fn fma(plan: &mut Plan, input: Tensor, iterations: usize) -> Tensor {
    let (output, dispatch) = of_fma(plan, input, iterations);
    plan.push(dispatch.workgroups(flat_workgroups(input.len(), FLAT_LANES)));
    output
}

fn of_fma(plan: &mut Plan, input: Tensor, iterations: usize) -> (Tensor, Dispatch) {
    let output = plan.scratch("chains", input.rows, input.cols);
    let (factor, term) = FACTOR_AND_TERM;
    let params = FmaParams {
        len: word(input.len()),
        iterations: word(iterations),
        factor,
        term,
    };
    let dispatch = Dispatch::new(&FMA, params, [input.into(), output.into()])
        .flops(2 * FMAS_PER_ITERATION * iterations * input.len());
    (output, dispatch)
}

/// [`fma`] by workgroups of `lanes` lanes.
pub fn fma_by(plan: &mut Plan, lanes: usize, input: Tensor, iterations: usize) -> Tensor {
    let (output, dispatch) = of_fma(plan, input, iterations);
    let dispatch = dispatch.constant("WORKGROUP_SIZE", word(lanes));
    plan.push(dispatch.workgroups(flat_workgroups(input.len(), lanes)));
    output
}

/// A copy of `input`.
///
/// # Panics
/// If its length is no multiple of 4: a bug of the caller.
pub fn copy(plan: &mut Plan, input: Tensor) -> Tensor {
    assert!(input.len().is_multiple_of(4), "whole quads");
    let output = plan.scratch("copy", input.rows, input.cols);
    let quads = input.len() / 4;
    let params = CopyParams { quads: word(quads) };
    plan.push(
        Dispatch::new(&COPY, params, [input.into(), output.into()])
            .workgroups(flat_workgroups(quads, FLAT_LANES)),
    );
    output
}

/// Each of `lanes` lanes sums what it reads of `input` `[1, TILE]` in workgroup memory.
///
/// # Panics
/// If the input is no tile or `lanes` no multiple of a workgroup: a bug of the caller.
pub fn workgroup(plan: &mut Plan, input: Tensor, lanes: usize, iterations: usize) -> Tensor {
    assert!(input.len() == TILE && lanes.is_multiple_of(FLAT_LANES));
    let output = plan.scratch("sums", 1, lanes);
    let params = WorkgroupParams {
        iterations: word(iterations),
    };
    plan.push(
        Dispatch::new(&WORKGROUP, params, [input.into(), output.into()])
            .workgroups(flat_workgroups(lanes, FLAT_LANES))
            .flops(LOADS_PER_ITERATION * iterations * lanes),
    );
    output
}
