//! Blocks of signed bytes with a scale each (ggml's `q8_0`) to what products take.

use super::{FLAT_LANES, binding, halves, q8_0};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
pub use crate::gpu::tensor::BLOCK_LEN;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(DequantizeParams { quads: u32 });

/// To words.
pub static DEQUANTIZE: Kernel = Kernel {
    name: "dequantize",
    variant: PORTABLE,
    source: shader!("dequantize.wgsl"),
    bindings: &[q8_0("input", Role::In), binding("output", Role::Out)],
    params: DequantizeParams::LAYOUT,
    requires: &[],
};

/// To halves.
pub static DEQUANTIZE_F16: Kernel = Kernel {
    variant: "portable_f16",
    bindings: &[q8_0("input", Role::In), halves("output", Role::Out)],
    ..DEQUANTIZE
};

/// `input` `[rows, cols]`, which is of `q8_0`, to a tensor of words or of halves without gaps.
///
/// # Panics
/// If the shapes differ, or there are gaps: a bug of the caller.
pub fn dequantize_into(plan: &mut Plan, input: Tensor, output: Tensor) {
    let shape = |t: Tensor| (t.rows, t.cols);
    assert_eq!(shape(input), shape(output), "{input:?} to {output:?}");
    assert!(output.is_dense(), "{output:?}");
    let kernel = match output.is_halves() {
        true => &DEQUANTIZE_F16,
        false => &DEQUANTIZE,
    };
    let quads = output.len() / 4;
    let params = DequantizeParams { quads: word(quads) };
    plan.push(
        Dispatch::new(kernel, params, [input.into(), output.into()])
            .workgroups(flat_workgroups(quads, FLAT_LANES)),
    );
}
