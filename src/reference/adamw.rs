//! One step of AdamW, as `torch.optim.AdamW` computes it.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2; torch
//! decays before the update and adds `eps` after the bias-corrected square root.

use super::assert_len;

/// What a step needs besides the tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Share of the parameter that a learning rate of 1 would remove.
    pub weight_decay: f64,
    /// Number of this step, counted from 1.
    pub step: u32,
}

/// Updates `parameter`, `moment1` and `moment2` in place from `gradient`, all of one shape.
///
/// # Panics
/// Where the slices differ in length, or the step is 0.
pub fn update(
    parameter: &mut [f64],
    gradient: &[f64],
    moment1: &mut [f64],
    moment2: &mut [f64],
    step: &AdamwStep,
) {
    assert_len("gradient", gradient, parameter.len());
    assert_len("moment1", moment1, parameter.len());
    assert_len("moment2", moment2, parameter.len());
    assert!(step.step > 0, "steps count from 1");
    let correction1 = 1.0 - step.beta1.powf(f64::from(step.step));
    let correction2 = 1.0 - step.beta2.powf(f64::from(step.step));
    for index in 0..parameter.len() {
        let g = gradient[index];
        parameter[index] *= 1.0 - step.learning_rate * step.weight_decay;
        moment1[index] = step.beta1 * moment1[index] + (1.0 - step.beta1) * g;
        moment2[index] = step.beta2 * moment2[index] + (1.0 - step.beta2) * g * g;
        let denominator = moment2[index].sqrt() / correction2.sqrt() + step.eps;
        parameter[index] -= step.learning_rate * (moment1[index] / correction1) / denominator;
    }
}
