//! Global gradient norm and the factor that clips it; neither visits the host on its way.

use super::{binding, row_lanes};
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SquaresParams {
    len: u32,
    block_len: u32,
    first_block: u32
});
params!(ClipParams {
    blocks: u32,
    max_norm: f32
});

/// Sum of squares of blocks of the gradients.
pub static SQUARES: Kernel = Kernel {
    name: "grad_norm_squares",
    variant: PORTABLE,
    source: shader!("grad_norm_squares.wgsl"),
    bindings: &[
        binding("gradients", Role::In),
        binding("squares", Role::Out),
    ],
    params: SquaresParams::LAYOUT,
    requires: &[],
};

/// Norm and clip factor.
pub static CLIP: Kernel = Kernel {
    name: "grad_norm_clip",
    variant: PORTABLE,
    source: shader!("grad_norm_clip.wgsl"),
    bindings: &[
        binding("squares", Role::In),
        binding("norm_and_clip", Role::Out),
    ],
    params: ClipParams::LAYOUT,
    requires: &[],
};

/// Elements of a block at least: 16 quads for each lane of a workgroup of 64.
const BLOCK_LEN: usize = 4096;
/// Blocks of one tensor at most, so that the second stage stays short.
const MAX_BLOCKS: usize = 1024;

fn block_len(len: usize) -> usize {
    BLOCK_LEN.max(len.div_ceil(MAX_BLOCKS)).next_multiple_of(4)
}

/// Writes the L2 norm over all `gradients` and the clip factor for `max_norm` to `norm_and_clip`
/// `[2]`; padding between tensors must be zero.
pub fn norm_and_clip(plan: &mut Plan, gradients: &[Tensor], norm_and_clip: Tensor, max_norm: f32) {
    let squares = squares(plan, gradients);
    clip(plan, squares, norm_and_clip, max_norm);
}

/// Sums of squares over blocks of all `gradients`, `[1, blocks]`; padding between tensors must be zero.
pub fn squares(plan: &mut Plan, gradients: &[Tensor]) -> Tensor {
    let blocks = gradients
        .iter()
        .map(|g| g.len().div_ceil(block_len(g.len())))
        .sum();
    let squares = plan.scratch("squares", 1, blocks);
    let mut first_block = 0;
    for &tensor in gradients {
        let block_len = block_len(tensor.len());
        let count = tensor.len().div_ceil(block_len);
        let params = SquaresParams {
            len: word(tensor.len()),
            block_len: word(block_len),
            first_block: word(first_block),
        };
        plan.push(
            Dispatch::new(&SQUARES, params, [tensor.into(), squares.into()])
                .constant("WORKGROUP_SIZE", row_lanes(plan))
                .workgroups([word(count), 1, 1])
                .flops(2 * tensor.len()),
        );
        first_block += count;
    }
    squares
}

/// Writes the norm and the clip factor for `max_norm` to `norm_and_clip` `[2]`, from what [`squares`] gave.
pub fn clip(plan: &mut Plan, squares: Tensor, norm_and_clip: Tensor, max_norm: f32) {
    let blocks = squares.len();
    let params = ClipParams {
        blocks: word(blocks),
        max_norm,
    };
    plan.push(Dispatch::new(&CLIP, params, [squares.into(), norm_and_clip.into()]).flops(blocks));
}
