//! Rotary position embedding on interleaved pairs (Su et al. 2021).

use super::{FLAT_LANES, binding};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Binding, Dispatch, Kernel, Plan, Requirement, Role, Source, Tensor};
use crate::{params, shader};

params!(RopeParams {
    rows: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32
});

const SHARED: &[Source] = &[
    shader!("shared/flat_workgroup.wgsl"),
    shader!("shared/rope_rotate.wgsl"),
];
const BINDINGS: &[Binding] = &[
    binding("cosines", Role::In),
    binding("sines", Role::In),
    binding("values", Role::InOut),
];

/// Rotates in place by the angle of each position.
pub static FORWARD: Kernel = Kernel {
    name: "rope_forward",
    variant: PORTABLE,
    source: shader!("rope_forward.wgsl"),
    shared: SHARED,
    bindings: BINDINGS,
    params: RopeParams::LAYOUT,
    requires: Requirement::Portable,
};

/// Rotates a gradient in place by the negative angle.
pub static BACKWARD: Kernel = Kernel {
    name: "rope_backward",
    variant: PORTABLE,
    source: shader!("rope_backward.wgsl"),
    shared: SHARED,
    bindings: BINDINGS,
    params: RopeParams::LAYOUT,
    requires: Requirement::Portable,
};

/// The angles of every position and pair, each `[time, head_dim / 2]`.
#[derive(Clone, Copy, Debug)]
pub struct RopeTables {
    /// Cosines.
    pub cosines: Tensor,
    /// Sines.
    pub sines: Tensor,
}

/// Computes cosines and sines, each `[time, head_dim / 2]`: in f64 on the host, since shader
/// trigonometry of large angles is only as good as the driver.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the tables are f32 by design"
)]
pub fn tables(time: usize, head_dim: usize, theta: f64) -> (Vec<f32>, Vec<f32>) {
    let angles = (0..time).flat_map(|position| {
        (0..head_dim / 2)
            .map(move |pair| position as f64 * theta.powf(-((2 * pair) as f64) / head_dim as f64))
    });
    angles
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip()
}

/// Rotates `values` `[batch * time, num_heads * head_dim]` in place.
pub fn forward(plan: &mut Plan, tables: RopeTables, values: Tensor, num_heads: usize) {
    push(plan, &FORWARD, tables, values, num_heads);
}

/// Turns the gradient of rotated values into that of the values, in place.
pub fn backward(plan: &mut Plan, tables: RopeTables, d_values: Tensor, num_heads: usize) {
    push(plan, &BACKWARD, tables, d_values, num_heads);
}

fn push(
    plan: &mut Plan,
    kernel: &'static Kernel,
    tables: RopeTables,
    values: Tensor,
    num_heads: usize,
) {
    let params = RopeParams {
        rows: word(values.rows),
        time: word(tables.cosines.rows),
        num_heads: word(num_heads),
        head_dim: word(values.cols / num_heads),
    };
    plan.push(
        Dispatch::new(
            kernel,
            params,
            [tables.cosines.into(), tables.sines.into(), values.into()],
        )
        .workgroups(flat_workgroups(values.len() / 2, FLAT_LANES))
        .flops(3 * values.len()),
    );
}
