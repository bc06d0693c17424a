//! RMSNorm of each head of queries or keys: `output = input / rms(input) * gain`, head by head.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4, on heads in place of rows, as
//! Henry et al., "Query-Key Normalization for Transformers" (2020), have l2 norms of them.

use super::{assert_len, exact_parts};

/// Normalises each head of `heads` `[rows, heads, head_dim]` with `gain` `[head_dim]`.
///
/// Returns the output and the inverse root mean square of each head, `[rows, heads]`.
///
/// # Panics
/// Where `heads` holds no whole number of them.
pub fn forward(heads: &[f64], gain: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let head_dim = gain.len();
    let count = exact_parts("heads", heads.len(), head_dim);
    let mut output = vec![0.0; heads.len()];
    let mut inv_rms = vec![0.0; count];
    for head in 0..count {
        let mut squares = 0.0;
        for i in 0..head_dim {
            squares += heads[head * head_dim + i] * heads[head * head_dim + i];
        }
        inv_rms[head] = 1.0 / (squares / head_dim as f64 + eps).sqrt();
        for i in 0..head_dim {
            let index = head * head_dim + i;
            output[index] = heads[index] * inv_rms[head] * gain[i];
        }
    }
    (output, inv_rms)
}

/// The gradients of the heads `[rows, heads, head_dim]` and of their gain `[head_dim]`.
///
/// With `n = head * inv_rms` and `g = d_output * gain`: `d_head = inv_rms * (g - n * mean(g * n))`, and
/// `d_gain` is the sum of `d_output * n` over all rows and heads.
///
/// # Panics
/// Where a slice does not fit `inv_rms` `[rows, heads]` and `gain`.
pub fn backward(
    heads: &[f64],
    gain: &[f64],
    inv_rms: &[f64],
    d_output: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let head_dim = gain.len();
    assert_len("heads", heads, inv_rms.len() * head_dim);
    assert_len("d_output", d_output, heads.len());
    let mut d_heads = vec![0.0; heads.len()];
    let mut d_gain = vec![0.0; head_dim];
    for head in 0..inv_rms.len() {
        let mut product = 0.0;
        for i in 0..head_dim {
            let index = head * head_dim + i;
            let normed = heads[index] * inv_rms[head];
            product += d_output[index] * gain[i] * normed;
            d_gain[i] += d_output[index] * normed;
        }
        for i in 0..head_dim {
            let index = head * head_dim + i;
            let normed = heads[index] * inv_rms[head];
            let gradient = d_output[index] * gain[i];
            d_heads[index] = inv_rms[head] * (gradient - normed * product / head_dim as f64);
        }
    }
    (d_heads, d_gain)
}
