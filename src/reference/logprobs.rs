//! Log-probabilities of tokens under the softmax of logits, in nats.

use super::exact_parts;

/// The log-probabilities of a row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of the row's token.
    pub token: f64,
    /// The likeliest tokens, each with its own.
    pub top: Vec<(usize, f64)>,
}

/// `logits[token] - log(sum of exp(logits))` for each row of `logits` `[rows, vocab]`, and the same of its
/// `top` likeliest tokens, the lowest id first among equals; fewer where the vocabulary has no more.
///
/// Every row has a finite logit and no other infinity than minus infinity.
///
/// # Panics
/// Where `logits` does not fit `tokens`, a token lies outside of the vocabulary, or a logit is NaN.
pub fn token_logprobs(logits: &[f64], tokens: &[usize], top: usize) -> Vec<Row> {
    let vocab = exact_parts("logits", logits.len(), tokens.len());
    let mut rows = Vec::with_capacity(tokens.len());
    for (row, &token) in tokens.iter().enumerate() {
        let values = &logits[row * vocab..][..vocab];
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = values.iter().map(|value| (value - max).exp()).sum();
        let logprob = |id: usize| (values[id] - max) - total.ln();
        let mut ids: Vec<usize> = (0..vocab).collect();
        // A stable sort leaves equal ones in the order of ids.
        ids.sort_by(|&a, &b| {
            let order = values[b].partial_cmp(&values[a]);
            order.expect("no logit is NaN")
        });
        ids.truncate(top);
        rows.push(Row {
            token: logprob(token),
            top: ids.into_iter().map(|id| (id, logprob(id))).collect(),
        });
    }
    rows
}
