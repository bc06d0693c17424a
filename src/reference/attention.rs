//! Causal scaled dot-product attention with grouped key and value heads.
//!
//! Vaswani et al., "Attention Is All You Need" (2017), equation 1; Ainslie et al., "GQA" (2023),
//! for the groups of query heads that share one key and value head.

use super::assert_len;
use super::exact_parts;

/// The sizes of an attention operation.
///
/// Queries, outputs and their gradients are `[batch * time, num_heads * head_dim]`; keys, values and
/// their gradients are `[batch * time, num_kv_heads * head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub time: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; head `h` uses number `h / (num_heads / num_kv_heads)` of them.
    pub num_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// The number of elements of the queries.
    fn query_len(self) -> usize {
        self.batch * self.time * self.num_heads * self.head_dim
    }

    /// The number of elements of the keys, and of the values.
    fn key_len(self) -> usize {
        self.batch * self.time * self.num_kv_heads * self.head_dim
    }

    /// Where the query of a head begins.
    fn query_start(self, batch: usize, position: usize, head: usize) -> usize {
        ((batch * self.time + position) * self.num_heads + head) * self.head_dim
    }

    /// Where the key, or the value, that a query head uses begins.
    fn key_start(self, batch: usize, position: usize, head: usize) -> usize {
        let group = exact_parts("the query heads", self.num_heads, self.num_kv_heads);
        ((batch * self.time + position) * self.num_kv_heads + head / group) * self.head_dim
    }
}

/// Attends causally: `output_i = sum over j <= i of softmax_j(q_i k_j / sqrt(head_dim)) v_j`.
///
/// Returns the output `[batch * time, num_heads * head_dim]` and the logarithm of the softmax's
/// denominator, `log(sum of exp(scaled scores))`, `[batch, num_heads, time]` in nats.
///
/// # Panics
/// Where a slice does not fit `shape`, or the heads do not divide into groups.
pub fn forward(q: &[f64], k: &[f64], v: &[f64], shape: AttentionShape) -> (Vec<f64>, Vec<f64>) {
    assert_len("q", q, shape.query_len());
    assert_len("k", k, shape.key_len());
    assert_len("v", v, shape.key_len());
    let mut output = vec![0.0; shape.query_len()];
    let mut log_sum_exp = vec![0.0; shape.batch * shape.num_heads * shape.time];
    for batch in 0..shape.batch {
        for head in 0..shape.num_heads {
            for row in 0..shape.time {
                let start = shape.query_start(batch, row, head);
                let query = &q[start..][..shape.head_dim];
                let starts: Vec<usize> = (0..=row)
                    .map(|col| shape.key_start(batch, col, head))
                    .collect();
                let (probabilities, log_denominator) = softmax_row(query, k, &starts);
                for (&key_start, probability) in starts.iter().zip(&probabilities) {
                    for dim in 0..shape.head_dim {
                        output[start + dim] += probability * v[key_start + dim];
                    }
                }
                log_sum_exp[(batch * shape.num_heads + head) * shape.time + row] = log_denominator;
            }
        }
    }
    (output, log_sum_exp)
}

/// The gradients `(d_q, d_k, d_v)` in the shapes of `q`, `k` and `v`.
///
/// With `p` the probabilities of a row and `d_p_j = d_output v_j`: `d_v_j += p_j d_output`,
/// `d_score_j = p_j (d_p_j - d_output output)`, `d_q += d_score_j k_j / sqrt(head_dim)`,
/// `d_k_j += d_score_j q / sqrt(head_dim)`. Dao et al., "FlashAttention" (2022), appendix B.2. `output` is what
/// the forward pass kept, which may be rounded.
///
/// # Panics
/// Where a slice does not fit `shape`, or the heads do not divide into groups.
pub fn backward(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    output: &[f64],
    d_output: &[f64],
    shape: AttentionShape,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    gradients([q, k, v], output, d_output, shape, |term| term)
}

/// The sums of the absolute values of the terms that [`backward`] adds up, in the same shapes: where each
/// probability and each `d_score` is rounded by a part of its own size, the gradients are off by no more than that
/// part of these.
///
/// # Panics
/// As [`backward`] does.
pub fn backward_magnitudes(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    output: &[f64],
    d_output: &[f64],
    shape: AttentionShape,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    gradients([q, k, v], output, d_output, shape, f64::abs)
}

/// The gradients as sums of what `counted` makes of each of their terms.
fn gradients(
    [q, k, v]: [&[f64]; 3],
    output: &[f64],
    d_output: &[f64],
    shape: AttentionShape,
    counted: impl Fn(f64) -> f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    assert_len("q", q, shape.query_len());
    assert_len("k", k, shape.key_len());
    assert_len("v", v, shape.key_len());
    assert_len("output", output, shape.query_len());
    assert_len("d_output", d_output, shape.query_len());
    let head_dim = shape.head_dim;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut d_q = vec![0.0; shape.query_len()];
    let mut d_k = vec![0.0; shape.key_len()];
    let mut d_v = vec![0.0; shape.key_len()];
    for batch in 0..shape.batch {
        for head in 0..shape.num_heads {
            for row in 0..shape.time {
                let start = shape.query_start(batch, row, head);
                let query = &q[start..][..head_dim];
                let d_row = &d_output[start..][..head_dim];
                let starts: Vec<usize> = (0..=row)
                    .map(|col| shape.key_start(batch, col, head))
                    .collect();
                let (probabilities, _) = softmax_row(query, k, &starts);
                let d_probabilities: Vec<f64> = starts
                    .iter()
                    .map(|&key_start| dot(d_row, &v[key_start..][..head_dim]))
                    .collect();
                let mean = dot(d_row, &output[start..][..head_dim]);
                for (col, &key_start) in starts.iter().enumerate() {
                    let d_score = probabilities[col] * (d_probabilities[col] - mean) * scale;
                    for dim in 0..head_dim {
                        d_v[key_start + dim] += counted(probabilities[col] * d_row[dim]);
                        d_q[start + dim] += counted(d_score * k[key_start + dim]);
                        d_k[key_start + dim] += counted(d_score * query[dim]);
                    }
                }
            }
        }
    }
    (d_q, d_k, d_v)
}

/// The probabilities of one query over the keys that begin at `starts`, and their log denominator.
fn softmax_row(query: &[f64], k: &[f64], starts: &[usize]) -> (Vec<f64>, f64) {
    let scale = 1.0 / (query.len() as f64).sqrt();
    let scores: Vec<f64> = starts
        .iter()
        .map(|&start| scale * dot(query, &k[start..][..query.len()]))
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    let probabilities = exponentials.iter().map(|value| value / total).collect();
    (probabilities, max + total.ln())
}

/// The inner product of two slices of one length.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut total = 0.0;
    for (left, right) in left.iter().zip(right) {
        total += left * right;
    }
    total
}
