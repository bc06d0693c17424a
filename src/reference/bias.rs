//! Biases: `output[row, col] = values[row, col] + bias[row mod period, col]`.

use super::exact_parts;

/// Adds `bias` `[period, cols]` to `values` `[rows, cols]`.
///
/// # Panics
/// Where a slice holds no whole number of rows.
pub fn forward(values: &[f64], bias: &[f64], cols: usize) -> Vec<f64> {
    exact_parts("values", values.len(), cols);
    let period = exact_parts("bias", bias.len(), cols);
    let mut output = values.to_vec();
    for (index, value) in output.iter_mut().enumerate() {
        let (row, col) = (index / cols, index % cols);
        *value += bias[row % period * cols + col];
    }
    output
}

/// The gradient of the bias `[period, cols]`: the sum of `d_output` `[rows, cols]` over the rows that it was added to.
///
/// # Panics
/// Where `d_output` holds no whole number of rows.
pub fn backward(d_output: &[f64], period: usize, cols: usize) -> Vec<f64> {
    exact_parts("d_output", d_output.len(), cols);
    let mut d_bias = vec![0.0; period * cols];
    for (index, d) in d_output.iter().enumerate() {
        let (row, col) = (index / cols, index % cols);
        d_bias[row % period * cols + col] += d;
    }
    d_bias
}
