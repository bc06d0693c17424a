//! Dynamic loss scaling (Micikevicius et al. 2018): gradients that are rounded to halves are kept in their
//! range by a power of two, which grows while they stay finite and halves when they do not.

use super::adamw::{AdamwSettings, STEP_WORDS};
use super::{binding, row_lanes};
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(LossScaleParams {
    blocks: u32,
    max_norm: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    growth_interval: u32,
    smallest_scale: f32,
    largest_scale: f32,
});

/// Norm and clip factor of scaled gradients, the next scale, and what AdamW reads.
pub static UPDATE: Kernel = Kernel {
    name: "loss_scale_update",
    variant: PORTABLE,
    source: shader!("loss_scale_update.wgsl"),
    bindings: &[
        binding("squares", Role::In),
        binding("step", Role::In),
        binding("norm_and_clip", Role::Out),
        binding("state", Role::InOut),
        binding("applied_step", Role::Out),
    ],
    params: LossScaleParams::LAYOUT,
    requires: &[],
};

/// Words of a state.
pub const WORDS: usize = 5;
/// Steps with finite gradients after which the scale doubles. PyTorch waits for 2,000, and then goes without
/// the small gradients for as long after each step that was not finite.
pub const GROWTH_INTERVAL: u32 = 200;
/// The scale of a new run, as PyTorch's.
pub const FIRST_SCALE: f32 = 65_536.0;

/// The least scale: gradients that are not finite at that are not too large for halves alone.
pub const SMALLEST_SCALE: f32 = 1.0;
/// The largest scale.
pub const LARGEST_SCALE: f32 = 16_777_216.0;

/// `[WORDS]` of a buffer that outlives steps, as [`LossScale::to_words`] writes them.
#[derive(Clone, Copy, Debug)]
pub struct State(pub Tensor);

impl State {
    /// `[1]`: what gradients are multiplied with.
    pub fn scale(self) -> Tensor {
        self.0.slice(0, 1)
    }
}

/// The state of the scale, which decides a run's next steps.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LossScale {
    /// What gradients are multiplied with: a power of two.
    pub scale: f32,
    /// Steps since it changed.
    pub good_steps: u32,
    /// Steps whose gradients were not finite, and which changed nothing.
    pub skipped_steps: u32,
    /// `1 - beta1^n` and `1 - beta2^n` after the `n` steps that were not skipped.
    pub corrections: [f32; 2],
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: FIRST_SCALE,
            good_steps: 0,
            skipped_steps: 0,
            corrections: [0.0; 2],
        }
    }
}

impl LossScale {
    /// As the device keeps it.
    pub fn to_words(self) -> [u32; WORDS] {
        let [first, second] = self.corrections.map(f32::to_bits);
        let scale = self.scale.to_bits();
        [scale, self.good_steps, self.skipped_steps, first, second]
    }

    /// From what the device keeps.
    pub fn from_words([scale, good_steps, skipped_steps, first, second]: [u32; WORDS]) -> Self {
        Self {
            scale: f32::from_bits(scale),
            good_steps,
            skipped_steps,
            corrections: [first, second].map(f32::from_bits),
        }
    }
}

/// Writes norm and clip factor of unscaled gradients to `norm_and_clip` `[2]`, from the `squares` of scaled
/// ones; where these are not finite the factor is below zero, which makes AdamW leave everything as it is.
/// Gives what AdamW reads in place of `step`: with corrections for the steps that were not skipped.
#[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
pub fn update(
    plan: &mut Plan,
    (squares, step): (Tensor, Tensor),
    norm_and_clip: Tensor,
    state: State,
    max_norm: f32,
    settings: &AdamwSettings,
) -> Tensor {
    let applied_step = plan.scratch("applied_step", 1, STEP_WORDS);
    let params = LossScaleParams {
        blocks: word(squares.len()),
        max_norm,
        one_minus_beta1: (1.0 - settings.beta1) as f32,
        one_minus_beta2: (1.0 - settings.beta2) as f32,
        growth_interval: GROWTH_INTERVAL,
        smallest_scale: SMALLEST_SCALE,
        largest_scale: LARGEST_SCALE,
    };
    let bindings = [
        squares.into(),
        step.into(),
        norm_and_clip.into(),
        state.0.into(),
        applied_step.into(),
    ];
    plan.push(
        Dispatch::new(&UPDATE, params, bindings)
            .constant("WORKGROUP_SIZE", row_lanes(plan))
            .flops(squares.len()),
    );
    applied_step
}
