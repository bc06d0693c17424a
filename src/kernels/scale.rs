//! A matrix times a number, in place.

use super::{FLAT_LANES, binding, by_width};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(ScaleParams {
    rows: u32,
    cols: u32,
    stride: u32,
    factor: f32
});

/// Multiplies by a factor.
pub static SCALE: Kernel = Kernel {
    name: "scale",
    variant: PORTABLE,
    source: shader!("scale.wgsl"),
    bindings: &[binding("values", Role::InOut)],
    params: ScaleParams::LAYOUT,
    requires: &[],
};

/// [`SCALE`] for rows of whole quads.
pub static SCALE_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..SCALE
};

/// Multiplies `values` `[rows, cols]`, which may have gaps between rows, by `factor` in place.
pub fn scale(plan: &mut Plan, values: Tensor, factor: f32) {
    let (kernel, width) = by_width(values.cols | values.row_stride, &SCALE, &SCALE_QUADS);
    for rows in plan.row_blocks(&[values], 1) {
        let values = values.slice_rows(rows.start, rows.len());
        let cols = values.cols / width;
        let params = ScaleParams {
            rows: word(values.rows),
            cols: word(cols),
            stride: word(values.row_stride / width),
            factor,
        };
        plan.push(
            Dispatch::new(kernel, params, [values.into()])
                .workgroups(flat_workgroups(values.rows * cols, FLAT_LANES))
                .flops(values.rows * values.cols),
        );
    }
}
