//! SwiGLU's elementwise part: `silu(gate) * up`.
//!
//! Shazeer, "GLU Variants Improve Transformer" (2020), equation 6, with
//! `silu(x) = x * sigmoid(x)`.

use super::assert_len;

/// `silu(gate) * up`, all of one shape.
///
/// # Panics
/// Where `gate` and `up` differ in length.
pub fn forward(gate: &[f64], up: &[f64]) -> Vec<f64> {
    assert_len("up", up, gate.len());
    let mut output = vec![0.0; gate.len()];
    for index in 0..gate.len() {
        output[index] = gate[index] * sigmoid(gate[index]) * up[index];
    }
    output
}

/// The gradients `(d_gate, d_up)` in the shape of `gate`.
///
/// `silu'(x) = sigmoid(x) * (1 + x * (1 - sigmoid(x)))`.
///
/// # Panics
/// Where the slices differ in length.
pub fn backward(gate: &[f64], up: &[f64], d_output: &[f64]) -> (Vec<f64>, Vec<f64>) {
    assert_len("up", up, gate.len());
    assert_len("d_output", d_output, gate.len());
    let mut d_gate = vec![0.0; gate.len()];
    let mut d_up = vec![0.0; gate.len()];
    for index in 0..gate.len() {
        let x = gate[index];
        // sigmoid(-x) is 1 - sigmoid(x) without its cancellation.
        let slope = sigmoid(x) * (1.0 + x * sigmoid(-x));
        d_gate[index] = d_output[index] * up[index] * slope;
        d_up[index] = d_output[index] * x * sigmoid(x);
    }
    (d_gate, d_up)
}

/// `1 / (1 + exp(-x))`, of which neither side overflows.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        x.exp() / (1.0 + x.exp())
    }
}
