//! IEEE 754 binary16, rounded to nearest and ties to even.

use half::f16;

/// `values` times `factor` as the nearest halves.
pub fn halve(values: &[f64], factor: f64) -> Vec<f64> {
    let mut halves = vec![0.0; values.len()];
    for index in 0..values.len() {
        halves[index] = f16::from_f64(values[index] * factor).to_f64();
    }
    halves
}
