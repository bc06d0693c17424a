//! The Gaussian error linear unit, in the form by tanh.
//!
//! Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), section 2:
//! `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.

use std::f64::consts::FRAC_2_PI;

use super::assert_len;

const CUBIC: f64 = 0.044715;

/// GELU of each element.
pub fn forward(input: &[f64]) -> Vec<f64> {
    let gelu = |&x: &f64| 0.5 * x * (1.0 + tanh_of(x));
    input.iter().map(gelu).collect()
}

/// The gradient of the input: with `t` the tanh and `u` its argument,
/// `d_output * 0.5 * (1 + t + x * (1 - t^2) * u'(x))`.
///
/// # Panics
/// Where the slices differ in length.
pub fn backward(input: &[f64], d_output: &[f64]) -> Vec<f64> {
    assert_len("d_output", d_output, input.len());
    let mut d_input = vec![0.0; input.len()];
    for index in 0..input.len() {
        let x = input[index];
        let t = tanh_of(x);
        let slope = FRAC_2_PI.sqrt() * (1.0 + 3.0 * CUBIC * x * x);
        d_input[index] = d_output[index] * 0.5 * (1.0 + t + x * (1.0 - t * t) * slope);
    }
    d_input
}

fn tanh_of(x: f64) -> f64 {
    (FRAC_2_PI.sqrt() * (x + CUBIC * x * x * x)).tanh()
}
