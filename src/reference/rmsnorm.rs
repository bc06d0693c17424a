//! RMSNorm: `output = input / rms(input) * weight`, row by row.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4, with `eps`
//! added to the mean square.

use super::assert_len;
use super::exact_parts;

/// Normalises `input` `[rows, cols]` with the gains `weight` `[cols]`.
///
/// Returns the output `[rows, cols]` and `inv_rms` `[rows]` = `1 / sqrt(mean(input^2) + eps)`.
///
/// # Panics
/// Where `input` holds no whole number of rows.
pub fn forward(input: &[f64], weight: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let cols = weight.len();
    let rows = exact_parts("input", input.len(), cols);
    let mut output = vec![0.0; rows * cols];
    let mut inv_rms = vec![0.0; rows];
    for row in 0..rows {
        let mut squares = 0.0;
        for col in 0..cols {
            squares += input[row * cols + col] * input[row * cols + col];
        }
        inv_rms[row] = 1.0 / (squares / cols as f64 + eps).sqrt();
        for col in 0..cols {
            output[row * cols + col] = input[row * cols + col] * inv_rms[row] * weight[col];
        }
    }
    (output, inv_rms)
}

/// The gradient of the input `[rows, cols]`, from `inv_rms` `[rows]` as [`forward`] returned it.
///
/// With `g = d_output * weight`: `d_input = inv_rms * g - input * inv_rms^3 * mean(g * input)`,
/// the derivative of equation 4.
///
/// # Panics
/// Where a slice does not fit `inv_rms` `[rows]` and `weight` `[cols]`.
pub fn backward_input(
    input: &[f64],
    weight: &[f64],
    inv_rms: &[f64],
    d_output: &[f64],
) -> Vec<f64> {
    let (rows, cols) = (inv_rms.len(), weight.len());
    assert_len("input", input, rows * cols);
    assert_len("d_output", d_output, rows * cols);
    let mut d_input = vec![0.0; rows * cols];
    for row in 0..rows {
        let scale = inv_rms[row];
        let mut product = 0.0;
        for col in 0..cols {
            let index = row * cols + col;
            product += d_output[index] * weight[col] * (input[index] * scale);
        }
        let mean = product / cols as f64;
        for col in 0..cols {
            let index = row * cols + col;
            d_input[index] = scale * (d_output[index] * weight[col] - input[index] * scale * mean);
        }
    }
    d_input
}

/// The gradient of the gains `[cols]`: the sum over all rows of `d_output * input * inv_rms`.
///
/// `input` and `d_output` are `[rows, cols]`, `inv_rms` is `[rows]`.
///
/// # Panics
/// Where a slice does not fit `inv_rms` and `cols`.
pub fn backward_weight(input: &[f64], inv_rms: &[f64], d_output: &[f64], cols: usize) -> Vec<f64> {
    let rows = inv_rms.len();
    assert_len("input", input, rows * cols);
    assert_len("d_output", d_output, rows * cols);
    let mut d_weight = vec![0.0; cols];
    for row in 0..rows {
        for col in 0..cols {
            let index = row * cols + col;
            d_weight[col] += d_output[index] * (input[index] * inv_rms[row]);
        }
    }
    d_weight
}

/// Both gradients: of the input `[rows, cols]` and of the gains `[cols]`.
///
/// # Panics
/// Where a slice does not fit `inv_rms` `[rows]` and `weight` `[cols]`.
pub fn backward(
    input: &[f64],
    weight: &[f64],
    inv_rms: &[f64],
    d_output: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    (
        backward_input(input, weight, inv_rms, d_output),
        backward_weight(input, inv_rms, d_output, weight.len()),
    )
}
