//! Cross-entropy of logits against target ids, in nats.

use super::exact_parts;
use super::softmax;

/// The target of a row that counts for nothing: its loss and its gradient are 0.
pub const IGNORED: u32 = u32::MAX;

/// `log(sum of exp(logits)) - logits[target]` for each row of `logits` `[rows, vocab]`.
///
/// `targets` is `[rows]`; returns the losses `[rows]` in nats, 0 for a row whose target is [`IGNORED`].
///
/// # Panics
/// Where `logits` does not fit `targets`, or a target lies outside of the vocabulary.
pub fn forward(logits: &[f64], targets: &[u32]) -> Vec<f64> {
    let vocab = exact_parts("logits", logits.len(), targets.len());
    let mut losses = vec![0.0; targets.len()];
    for (row, &target) in targets.iter().enumerate() {
        if target == IGNORED {
            continue;
        }
        let values = &logits[row * vocab..][..vocab];
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = values.iter().map(|value| (value - max).exp()).sum();
        losses[row] = (max - values[target as usize]) + total.ln();
    }
    losses
}

/// The gradient of the logits `[rows, vocab]`: `(softmax(logits) - one_hot(target)) * scale`.
///
/// `scale` is the gradient of each row's loss, 1 / rows for a mean. The gradient is 0 in a row
/// whose target is [`IGNORED`].
///
/// # Panics
/// Where `logits` does not fit `targets`, or a target lies outside of the vocabulary.
pub fn backward(logits: &[f64], targets: &[u32], scale: f64) -> Vec<f64> {
    let vocab = exact_parts("logits", logits.len(), targets.len());
    let mut d_logits = vec![0.0; logits.len()];
    for (row, &target) in targets.iter().enumerate() {
        if target == IGNORED {
            continue;
        }
        assert!(
            (target as usize) < vocab,
            "target {target} is outside of {vocab}"
        );
        let probabilities = softmax::forward(&logits[row * vocab..][..vocab], vocab);
        for col in 0..vocab {
            let expected = if col == target as usize { 1.0 } else { 0.0 };
            d_logits[row * vocab + col] = (probabilities[col] - expected) * scale;
        }
    }
    d_logits
}
