//! The weights of one head's causal attention.

use super::assert_len;

/// `softmax_j(q_i k_j / sqrt(head_dim))` for `j <= i`, and zero for other `j`, `[rows, rows]`, of queries and keys
/// `[rows, head_dim]` (Vaswani et al. 2017, equation 1).
///
/// # Panics
/// Where the keys do not fit the queries.
pub fn weights(queries: &[f64], keys: &[f64], head_dim: usize) -> Vec<f64> {
    assert_len("keys", keys, queries.len());
    let rows = queries.len() / head_dim;
    let mut all = vec![0.0; rows * rows];
    for (i, query) in queries.chunks(head_dim).enumerate() {
        let scores: Vec<f64> = keys
            .chunks(head_dim)
            .take(i + 1)
            .map(|key| {
                let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                dot / (head_dim as f64).sqrt()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for (weight, score) in all[i * rows..].iter_mut().zip(&scores) {
            *weight = (score - largest).exp() / total;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_share_evenly_among_what_is_seen() {
        let got = weights(&[1.0, 0.0, 1.0, 0.0], &[0.0, 3.0, 0.0, -2.0], 2);
        assert_eq!(got, [1.0, 0.0, 0.5, 0.5]);
    }
}
