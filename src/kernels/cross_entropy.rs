//! Cross-entropy of a chunk of logits, fused with its gradient, and the sum of the losses.

use super::half::halve_into;
use super::{binding, by_width, either, halves, row_lanes};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(CrossEntropyParams {
    rows: u32,
    vocab_size: u32,
    row_stride: u32,
    half_stride: u32
});
params!(LossSumParams { rows: u32 });

/// A target that counts neither for the loss nor for the gradient.
pub const IGNORED: u32 = u32::MAX;

/// Losses of a chunk, and the gradient in place of the logits.
pub static FORWARD: Kernel = Kernel {
    name: "cross_entropy_forward",
    variant: PORTABLE,
    source: shader!("cross_entropy_forward.wgsl"),
    bindings: &[
        binding("targets", Role::In),
        binding("logits", Role::InOut),
        binding("losses", Role::Out),
        either("scale", Role::In),
        either("factor", Role::In),
        halves("halves", Role::OutOrUnused),
    ],
    params: CrossEntropyParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Adds losses up.
pub static LOSS_SUM: Kernel = Kernel {
    name: "loss_sum",
    variant: PORTABLE,
    source: shader!("loss_sum.wgsl"),
    bindings: &[
        binding("losses", Role::In),
        binding("scale", Role::In),
        binding("total", Role::OutOrAccumulate),
    ],
    params: LossSumParams::LAYOUT,
    requires: &[],
};

/// Where the gradient of halves goes, and a factor `[1]` of it.
#[derive(Clone, Copy, Debug)]
pub struct Halved {
    /// `[rows, vocab]`.
    pub gradient: Tensor,
    /// `[1]`.
    pub factor: Tensor,
}

/// Writes the loss of each row in nats to `losses` `[rows]`. With `scale` `[1]`, the gradient of `logits`
/// `[rows, vocab]`, which may have gaps between rows, times that scale takes their place or, times a factor,
/// goes to a tensor of halves, in the same pass.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn forward(
    plan: &mut Plan,
    logits: Tensor,
    targets: Tensor,
    losses: Tensor,
    scale: Option<Tensor>,
    halved: Option<Halved>,
) {
    assert_eq!(
        (targets.len(), losses.len()),
        (logits.rows, logits.rows),
        "a target and a loss a row"
    );
    // What is in the gap behind a row counts for nothing.
    let (kernel, width) = by_width(logits.row_stride, &FORWARD, &FORWARD_QUADS);
    let stored = halved.filter(|_| width == 4);
    let (packed, factor) = match stored {
        Some(halved) => (halved.gradient, halved.factor),
        None => (plan.scratch_halves("unused", 1, 1), targets),
    };
    let params = CrossEntropyParams {
        rows: word(logits.rows),
        vocab_size: word(logits.cols),
        row_stride: word(logits.row_stride / width),
        half_stride: word(packed.row_stride / 4),
    };
    let bound_scale = scale.unwrap_or(targets);
    let bindings = [targets, logits, losses, bound_scale, factor, packed].map(Tensor::into);
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .constant("WRITE_GRADIENT", scale.is_some().into())
            .constant("HALVES", stored.is_some().into())
            .workgroups(flat_workgroups(logits.rows, 1))
            .flops(8 * logits.len()),
    );
    if let (Some(halved), None) = (halved, stored) {
        halve_into(plan, logits, Some(halved.factor), halved.gradient);
    }
}

/// Writes `scale` `[1]` times the sum of `losses` to `total` `[1]`, or adds it if `accumulate`.
pub fn loss_sum(plan: &mut Plan, losses: Tensor, total: Tensor, scale: Tensor, accumulate: bool) {
    let params = LossSumParams {
        rows: word(losses.len()),
    };
    plan.push(
        Dispatch::new(
            &LOSS_SUM,
            params,
            [losses.into(), scale.into(), total.into()],
        )
        .constant("ACCUMULATE", accumulate.into())
        .flops(losses.len()),
    );
}
