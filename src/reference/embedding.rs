//! Token embedding: a row of the table for each token, and the sum of gradients back into the rows.

use super::assert_len;
use super::exact_parts;

/// Looks up `weight` `[vocab, d_model]` for `tokens` `[rows]`; returns `[rows, d_model]`.
///
/// # Panics
/// Where `weight` holds no whole number of rows, or a token lies outside of the vocabulary.
pub fn forward(weight: &[f64], tokens: &[u32], d_model: usize) -> Vec<f64> {
    let vocab = exact_parts("weight", weight.len(), d_model);
    let mut output = Vec::with_capacity(tokens.len() * d_model);
    for &token in tokens {
        let token = token as usize;
        assert!(token < vocab, "token {token} is outside of {vocab}");
        output.extend_from_slice(&weight[token * d_model..][..d_model]);
    }
    output
}

/// Adds the rows of `d_output` `[rows, d_model]` by token; returns `d_weight` `[vocab, d_model]`.
///
/// # Panics
/// Where `d_output` does not fit `tokens` `[rows]`, or a token lies outside of the vocabulary.
pub fn backward(d_output: &[f64], tokens: &[u32], vocab: usize, d_model: usize) -> Vec<f64> {
    assert_len("d_output", d_output, tokens.len() * d_model);
    let mut d_weight = vec![0.0; vocab * d_model];
    for (row, &token) in tokens.iter().enumerate() {
        let token = token as usize;
        assert!(token < vocab, "token {token} is outside of {vocab}");
        for col in 0..d_model {
            d_weight[token * d_model + col] += d_output[row * d_model + col];
        }
    }
    d_weight
}
