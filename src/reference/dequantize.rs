//! Blocks of quantised values.

use super::exact_parts;

/// `quants` times the scale of their block, of as many as there are `scales`.
///
/// # Panics
/// Where the quants are no whole blocks.
pub fn dequantize(quants: &[i8], scales: &[f64]) -> Vec<f64> {
    let len = exact_parts("quants", quants.len(), scales.len());
    let mut values = Vec::with_capacity(quants.len());
    for index in 0..quants.len() {
        values.push(f64::from(quants[index]) * scales[index / len]);
    }
    values
}
