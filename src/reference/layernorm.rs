//! Layer normalisation: `output = (input - mean) / std * weight + bias`, row by row.
//!
//! Ba, Kiros and Hinton, "Layer Normalization" (2016), equations 3 and 4, with the biased variance and `eps` added
//! to it.

use super::assert_len;
use super::exact_parts;

/// Mean and inverse standard deviation of each row.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[rows]`.
    pub mean: Vec<f64>,
    /// `[rows]`: `1 / sqrt(mean((input - mean)^2) + eps)`.
    pub inv_std: Vec<f64>,
}

/// The statistics of the rows of `input` `[rows, cols]`.
///
/// # Panics
/// Where `input` holds no whole number of rows.
pub fn statistics(input: &[f64], cols: usize, eps: f64) -> Statistics {
    let rows = exact_parts("input", input.len(), cols);
    let mut mean = vec![0.0; rows];
    let mut inv_std = vec![0.0; rows];
    for row in 0..rows {
        let mut sum = 0.0;
        for col in 0..cols {
            sum += input[row * cols + col];
        }
        mean[row] = sum / cols as f64;
        let mut squares = 0.0;
        for col in 0..cols {
            let distance = input[row * cols + col] - mean[row];
            squares += distance * distance;
        }
        inv_std[row] = 1.0 / (squares / cols as f64 + eps).sqrt();
    }
    Statistics { mean, inv_std }
}

/// Normalises `input` `[rows, cols]` with gains `weight` `[cols]` and `bias` `[cols]`, to `[rows, cols]`.
///
/// # Panics
/// Where a slice does not fit `weight`.
pub fn forward(input: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let cols = weight.len();
    assert_len("bias", bias, cols);
    let Statistics { mean, inv_std } = statistics(input, cols, eps);
    let mut output = vec![0.0; input.len()];
    for row in 0..mean.len() {
        for col in 0..cols {
            let index = row * cols + col;
            output[index] = (input[index] - mean[row]) * inv_std[row] * weight[col] + bias[col];
        }
    }
    output
}

/// The gradient of the input `[rows, cols]`, from its `statistics`.
///
/// With `n = (input - mean) * inv_std` and `g = d_output * weight`:
/// `d_input = inv_std * (g - mean(g) - n * mean(g * n))`, the derivative of equation 4.
///
/// # Panics
/// Where a slice does not fit `statistics` and `weight` `[cols]`.
pub fn backward_input(
    input: &[f64],
    weight: &[f64],
    statistics: &Statistics,
    d_output: &[f64],
) -> Vec<f64> {
    let (rows, cols) = (statistics.mean.len(), weight.len());
    assert_len("input", input, rows * cols);
    assert_len("d_output", d_output, rows * cols);
    let mut d_input = vec![0.0; rows * cols];
    for row in 0..rows {
        let (mean, inv_std) = (statistics.mean[row], statistics.inv_std[row]);
        let mut sum = 0.0;
        let mut product = 0.0;
        for col in 0..cols {
            let index = row * cols + col;
            let gradient = d_output[index] * weight[col];
            sum += gradient;
            product += gradient * (input[index] - mean) * inv_std;
        }
        for col in 0..cols {
            let index = row * cols + col;
            let normed = (input[index] - mean) * inv_std;
            let centred = d_output[index] * weight[col] - sum / cols as f64;
            d_input[index] = inv_std * (centred - normed * product / cols as f64);
        }
    }
    d_input
}

/// The gradients of the gains and of the bias, `[cols]` each: the sums over all rows of
/// `d_output * (input - mean) * inv_std` and of `d_output`.
///
/// # Panics
/// Where a slice does not fit `statistics` and `cols`.
pub fn backward_weight(
    input: &[f64],
    statistics: &Statistics,
    d_output: &[f64],
    cols: usize,
) -> (Vec<f64>, Vec<f64>) {
    let rows = statistics.mean.len();
    assert_len("input", input, rows * cols);
    assert_len("d_output", d_output, rows * cols);
    let mut d_weight = vec![0.0; cols];
    let mut d_bias = vec![0.0; cols];
    for row in 0..rows {
        for col in 0..cols {
            let index = row * cols + col;
            let normed = (input[index] - statistics.mean[row]) * statistics.inv_std[row];
            d_weight[col] += d_output[index] * normed;
            d_bias[col] += d_output[index];
        }
    }
    (d_weight, d_bias)
}
