//! Dynamic loss scaling: Micikevicius et al., "Mixed Precision Training" (2018), section 3.2.

/// What is kept from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScaleState {
    /// What gradients are multiplied with.
    pub scale: f64,
    /// Steps since the scale changed.
    pub good_steps: u32,
    /// Steps that changed nothing.
    pub skipped_steps: u32,
    /// `1 - beta^n` for both betas, after `n` steps that were not skipped.
    pub corrections: [f64; 2],
}

/// How the scale changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScaleRule {
    /// Steps after which it doubles.
    pub growth_interval: u32,
    /// It never falls below.
    pub smallest: f64,
    /// It never grows beyond.
    pub largest: f64,
    /// Decays of AdamW's moments.
    pub betas: [f64; 2],
}

/// The state after a step whose scaled gradients have the norm `scaled_norm`.
pub fn update(before: LossScaleState, scaled_norm: f64, rule: &LossScaleRule) -> LossScaleState {
    if !scaled_norm.is_finite() {
        return LossScaleState {
            scale: (before.scale / 2.0).max(rule.smallest),
            good_steps: 0,
            skipped_steps: before.skipped_steps + 1,
            ..before
        };
    }
    let mut after = before;
    for (correction, beta) in after.corrections.iter_mut().zip(rule.betas) {
        *correction = 1.0 - beta * (1.0 - *correction);
    }
    after.good_steps += 1;
    if after.good_steps == rule.growth_interval {
        after.scale = (before.scale * 2.0).min(rule.largest);
        after.good_steps = 0;
    }
    after
}
