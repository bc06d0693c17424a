//! AdamW (Loshchilov and Hutter 2019), as `torch.optim.AdamW` computes it, in one pass.

use super::{FLAT_LANES, binding};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(AdamwParams {
    len: u32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    eps: f32,
    weight_decay: f32,
});

/// Decay, moments, bias correction and clip factor in one pass.
pub static UPDATE: Kernel = Kernel {
    name: "adamw_update",
    variant: PORTABLE,
    source: shader!("adamw_update.wgsl"),
    bindings: &[
        binding("step", Role::In),
        binding("norm_and_clip", Role::In),
        binding("gradient", Role::In),
        binding("parameter", Role::InOut),
        binding("moment1", Role::InOut),
        binding("moment2", Role::InOut),
    ],
    params: AdamwParams::LAYOUT,
    requires: &[],
};

/// What stays the same through a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

/// Words of the buffer that carries [`step_words`].
pub const STEP_WORDS: usize = 3;

/// What changes every step: learning rate, `1 - beta1^t` and `sqrt(1 - beta2^t)`, `t` from 1.
#[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
pub fn step_words(settings: &AdamwSettings, learning_rate: f64, t: u64) -> [f32; STEP_WORDS] {
    let correction = |beta: f64| 1.0 - beta.powf(t as f64);
    [
        learning_rate as f32,
        correction(settings.beta1) as f32,
        correction(settings.beta2).sqrt() as f32,
    ]
}

/// The four tensors of one shape that a step touches.
#[derive(Clone, Copy, Debug)]
pub struct AdamwTensors {
    /// Updated.
    pub parameter: Tensor,
    /// Read.
    pub gradient: Tensor,
    /// Updated.
    pub moment1: Tensor,
    /// Updated.
    pub moment2: Tensor,
}

/// Updates parameter and moments; `step` holds [`step_words`], `norm_and_clip` the clip factor.
#[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
pub fn update(
    plan: &mut Plan,
    tensors: AdamwTensors,
    step: Tensor,
    norm_and_clip: Tensor,
    settings: &AdamwSettings,
) {
    let len = tensors.parameter.len();
    // Differences are taken in f64: 1 - 0.999 in f32 is off by 1e-5.
    let params = AdamwParams {
        len: word(len),
        beta2: settings.beta2 as f32,
        one_minus_beta1: (1.0 - settings.beta1) as f32,
        one_minus_beta2: (1.0 - settings.beta2) as f32,
        eps: settings.eps as f32,
        weight_decay: settings.weight_decay as f32,
    };
    let bindings = [
        step.into(),
        norm_and_clip.into(),
        tensors.gradient.into(),
        tensors.parameter.into(),
        tensors.moment1.into(),
        tensors.moment2.into(),
    ];
    plan.push(
        Dispatch::new(&UPDATE, params, bindings)
            .workgroups(flat_workgroups(len.div_ceil(4), FLAT_LANES))
            .flops(14 * len),
    );
}
