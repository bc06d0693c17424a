//! Rotary position embedding on interleaved pairs (Su et al. 2021).

use super::{binding, row_lanes};
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(RopeParams {
    first_sequence: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32,
    row_stride: u32
});

/// Rotates in place by the angle of each position.
pub static FORWARD: Kernel = Kernel {
    name: "rope_forward",
    variant: PORTABLE,
    source: shader!("rope_forward.wgsl"),
    bindings: &[binding("angles", Role::In), binding("values", Role::InOut)],
    params: RopeParams::LAYOUT,
    requires: &[],
};

/// The angle of every position and pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeTable {
    /// `[time, head_dim]`: cosine and sine of pair `i` are columns `2 i` and `2 i + 1`.
    pub angles: Tensor,
}

/// The angle from one position to the next of each pair, in radians (Su et al. 2021, equation 15).
pub fn frequencies(head_dim: usize, theta: f64) -> Vec<f64> {
    let exponent = |pair: usize| -((2 * pair) as f64) / head_dim as f64;
    (0..head_dim / 2)
        .map(|pair| theta.powf(exponent(pair)))
        .collect()
}

/// The angles of a position, a row of a [`RopeTable`]: in f64 on the host, since shader trigonometry of large
/// angles is only as good as the driver.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the tables are f32 by design"
)]
pub fn angles_at(position: usize, frequencies: &[f64]) -> impl Iterator<Item = f32> {
    frequencies.iter().flat_map(move |frequency| {
        let angle = position as f64 * frequency;
        [angle.cos() as f32, angle.sin() as f32]
    })
}

/// [`angles_at`] of the positions from zero on.
pub fn angles(time: usize, head_dim: usize, theta: f64) -> Vec<f32> {
    let frequencies = frequencies(head_dim, theta);
    (0..time)
        .flat_map(|position| angles_at(position, &frequencies))
        .collect()
}

/// Rotates the first `num_heads` heads in each row of `values` `[batch * time, cols]` in place.
pub fn forward(plan: &mut Plan, table: RopeTable, values: Tensor, num_heads: usize) {
    let (time, head_dim) = (table.angles.rows, table.angles.cols);
    let batch = values.rows / time;
    // A dimension of the grid holds so many sequences.
    for first in (0..batch).step_by(MAX_GROUPS) {
        let params = RopeParams {
            first_sequence: word(first),
            time: word(time),
            num_heads: word(num_heads),
            head_dim: word(head_dim),
            row_stride: word(values.row_stride),
        };
        let bindings = [table.angles.into(), values.into()];
        let sequences = MAX_GROUPS.min(batch - first);
        plan.push(
            Dispatch::new(&FORWARD, params, bindings)
                .constant("WORKGROUP_SIZE", row_lanes(plan))
                .workgroups([
                    word(time.min(MAX_GROUPS)),
                    word(sequences),
                    word(time.div_ceil(MAX_GROUPS)),
                ])
                .flops(3 * sequences * time * num_heads * head_dim),
        );
    }
}

/// Workgroups of a dimension that WebGPU guarantees.
const MAX_GROUPS: usize = 65_535;
