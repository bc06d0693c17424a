//! Softmax over the rows of a matrix.

use super::assert_len;
use super::exact_parts;

/// `exp(input - max) / sum of exp(input - max)` over each row of `input` `[rows, cols]`.
///
/// A row that is `-inf` throughout has no softmax and becomes NaN.
///
/// # Panics
/// Where `input` holds no whole number of rows.
pub fn forward(input: &[f64], cols: usize) -> Vec<f64> {
    let rows = exact_parts("input", input.len(), cols);
    let mut output = vec![0.0; rows * cols];
    for row in 0..rows {
        let values = &input[row * cols..][..cols];
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for col in 0..cols {
            let exponential = (values[col] - max).exp();
            output[row * cols + col] = exponential;
            total += exponential;
        }
        for col in 0..cols {
            output[row * cols + col] /= total;
        }
    }
    output
}

/// The gradient of the input: `output * (d_output - sum of output * d_output)`, row by row.
///
/// `output` is what [`forward`] returned; all are `[rows, cols]`.
///
/// # Panics
/// Where `output` holds no whole number of rows, or `d_output` differs in length.
pub fn backward(output: &[f64], d_output: &[f64], cols: usize) -> Vec<f64> {
    let rows = exact_parts("output", output.len(), cols);
    assert_len("d_output", d_output, rows * cols);
    let mut d_input = vec![0.0; rows * cols];
    for row in 0..rows {
        let mut product = 0.0;
        for col in 0..cols {
            product += output[row * cols + col] * d_output[row * cols + col];
        }
        for col in 0..cols {
            let index = row * cols + col;
            d_input[index] = output[index] * (d_output[index] - product);
        }
    }
    d_input
}
