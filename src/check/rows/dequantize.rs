//! Rows of the way from blocks of signed bytes to what products take.

use super::Table;
use crate::gpu::Elements;
use crate::kernels::dequantize::{DEQUANTIZE, DEQUANTIZE_F16, dequantize_into};
use crate::reference;

pub(super) fn rows(table: &mut Table) {
    // One block, an odd number of them, and more than a workgroup.
    for (rows, cols) in [(1, 32), (3, 32), (5, 96), (67, 64)] {
        for (kernel, elements) in [
            (&DEQUANTIZE, Elements::Words),
            (&DEQUANTIZE_F16, Elements::Halves),
        ] {
            table.add_once(kernel, format!("{rows}x{cols}"), move |case| {
                let input = case.random_q8_0(rows, cols, 1.0);
                let output = case.plan.scratch_of(elements, "output", rows, cols);
                dequantize_into(&mut case.plan, input.tensor, output);
                // A byte times a scale has no more bits than an f32.
                let want = match elements {
                    Elements::Words => input.values,
                    Elements::Halves => reference::half::halve(&input.values, 1.0),
                };
                case.expect_exactly("output", output, &want);
            });
        }
    }
}
