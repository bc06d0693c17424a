//! The sampler: logits to a distribution, stage by stage, and a draw from it.
//!
//! Top-p is nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration"
//! (2020), section 3.1.

use super::softmax;

/// The distribution `[vocab]` that a token is drawn from, of `logits` `[vocab]`.
///
/// In this order: temperature, [`top_k`], softmax, [`top_p`], [`renormalise`]. A temperature of 0
/// puts all mass on the [`greedy`] token.
///
/// # Panics
/// Where `logits` is empty, the temperature is negative, or `top_k` is `Some(0)`.
pub fn distribution(
    logits: &[f64],
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
) -> Vec<f64> {
    assert!(temperature >= 0.0, "temperature {temperature} is negative");
    if temperature == 0.0 {
        let mut probabilities = vec![0.0; logits.len()];
        probabilities[greedy(logits)] = 1.0;
        return probabilities;
    }
    let mut values: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
    if let Some(count) = top_k {
        values = self::top_k(&values, count);
    }
    let mut probabilities = softmax::forward(&values, values.len());
    if let Some(mass) = top_p {
        probabilities = self::top_p(&probabilities, mass);
    }
    renormalise(&probabilities)
}

/// Keeps exactly `count` of `logits` `[vocab]`, the lowest ids first on ties; the others become `-inf`.
///
/// # Panics
/// Where `count` is 0.
pub fn top_k(logits: &[f64], count: usize) -> Vec<f64> {
    assert!(count > 0, "top-k keeps at least one token");
    let mut kept = vec![f64::NEG_INFINITY; logits.len()];
    for &id in descending(logits).iter().take(count) {
        kept[id] = logits[id];
    }
    kept
}

/// Keeps a token of `probabilities` `[vocab]` while the mass before it is below `mass`.
///
/// "Before" is the order of falling probability, the lowest ids first on ties. At least one token
/// stays; the others become 0 and the rest is not renormalised.
pub fn top_p(probabilities: &[f64], mass: f64) -> Vec<f64> {
    let mut kept = vec![0.0; probabilities.len()];
    let mut before = 0.0;
    for (rank, &id) in descending(probabilities).iter().enumerate() {
        if rank > 0 && before >= mass {
            break;
        }
        kept[id] = probabilities[id];
        before += probabilities[id];
    }
    kept
}

/// Scales `probabilities` `[vocab]` so that they sum to 1.
pub fn renormalise(probabilities: &[f64]) -> Vec<f64> {
    let total: f64 = probabilities.iter().sum();
    probabilities.iter().map(|value| value / total).collect()
}

/// The first id whose cumulative sum exceeds `uniform` times the total of `probabilities` `[vocab]`.
///
/// Where rounding leaves none, the last id that has any probability.
///
/// # Panics
/// Where all probabilities are 0.
pub fn draw(probabilities: &[f64], uniform: f64) -> usize {
    let total: f64 = probabilities.iter().sum();
    let mut cumulative = 0.0;
    for (id, probability) in probabilities.iter().enumerate() {
        cumulative += probability;
        if cumulative > uniform * total {
            return id;
        }
    }
    probabilities
        .iter()
        .rposition(|&probability| probability > 0.0)
        .expect("some token has a probability")
}

/// The id of the largest of `logits` `[vocab]`, the lowest id on a tie.
pub fn greedy(logits: &[f64]) -> usize {
    let mut best = 0;
    for id in 0..logits.len() {
        if logits[id] > logits[best] {
            best = id;
        }
    }
    best
}

/// All ids in the order of falling value, the lowest ids first on ties.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..values.len()).collect();
    // A stable sort keeps ties in the order of their ids; -0 equals 0, which total_cmp denies.
    ids.sort_by(|&left, &right| (values[right] + 0.0).total_cmp(&(values[left] + 0.0)));
    ids
}
