//! Rotary position embedding on interleaved pairs (2i, 2i+1).
//!
//! Su et al., "RoFormer" (2021), section 3.2.2: pair `i` of a head turns by
//! `position * theta^(-2i / head_dim)` radians.

use super::exact_parts;

/// The sizes of a rotated tensor `[rows, num_heads * head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeShape {
    /// Positions of a sequence; row `r` stands at position `r % time`.
    pub time: usize,
    /// Heads in a row.
    pub num_heads: usize,
    /// Elements of a head, an even number.
    pub head_dim: usize,
    /// Base of the wavelengths.
    pub theta: f64,
}

/// The cosines and the sines of all angles, each `[time, head_dim / 2]`.
///
/// # Panics
/// Where `head_dim` is odd.
pub fn table(time: usize, head_dim: usize, theta: f64) -> (Vec<f64>, Vec<f64>) {
    let pairs = exact_parts("a head", head_dim, 2);
    let mut cos = vec![0.0; time * pairs];
    let mut sin = vec![0.0; time * pairs];
    for position in 0..time {
        for pair in 0..pairs {
            let frequency = theta.powf(-2.0 * pair as f64 / head_dim as f64);
            let angle = position as f64 * frequency;
            cos[position * pairs + pair] = angle.cos();
            sin[position * pairs + pair] = angle.sin();
        }
    }
    (cos, sin)
}

/// Turns every pair of `input` `[rows, num_heads * head_dim]` by its angle; returns the same shape.
///
/// # Panics
/// Where `head_dim` is odd, or `input` holds no whole number of sequences.
pub fn forward(input: &[f64], shape: RopeShape) -> Vec<f64> {
    rotate(input, shape, 1.0)
}

/// The gradient of the input `[rows, num_heads * head_dim]`: `d_output` turned by the negative angle.
///
/// # Panics
/// Where `head_dim` is odd, or `d_output` holds no whole number of sequences.
pub fn backward(d_output: &[f64], shape: RopeShape) -> Vec<f64> {
    rotate(d_output, shape, -1.0)
}

/// Turns every pair by `direction` times its angle.
fn rotate(input: &[f64], shape: RopeShape, direction: f64) -> Vec<f64> {
    let RopeShape {
        time,
        num_heads,
        head_dim,
        theta,
    } = shape;
    let cols = num_heads * head_dim;
    let rows = time * exact_parts("input", input.len(), time * cols);
    let (cos, sin) = table(time, head_dim, theta);
    let pairs = head_dim / 2;
    let mut output = vec![0.0; input.len()];
    for row in 0..rows {
        let position = row % time;
        for head in 0..num_heads {
            for pair in 0..pairs {
                let even = row * cols + head * head_dim + 2 * pair;
                let cosine = cos[position * pairs + pair];
                let sine = direction * sin[position * pairs + pair];
                output[even] = input[even] * cosine - input[even + 1] * sine;
                output[even + 1] = input[even] * sine + input[even + 1] * cosine;
            }
        }
    }
    output
}
