//! The sampler: logits to a distribution, stage by stage, and a draw from it.
//!
//! Top-p is nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration"
//! (2020), section 3.1. Min-p: Nguyen et al., "Turning Up the Heat" (2024). Repetition penalty: Keskar et
//! al., "CTRL" (2019), section 4.1.
//!
//! Probabilities order as logits do, so every filter keeps a beginning of one order: that of falling
//! logits, the lowest ids first on ties. A logit of minus infinity has no probability; where some are plus
//! infinity, these share all of it.

/// What a distribution is made by.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    /// Divides logits; 0 leaves the [`greedy`] token alone.
    pub temperature: f64,
    /// See [`top_k`].
    pub top_k: Option<usize>,
    /// See [`top_p`].
    pub top_p: Option<f64>,
    /// See [`min_p`].
    pub min_p: Option<f64>,
}

/// The logits `[vocab]` of tokens that may be drawn; those of the others become `-inf`.
///
/// In this order: temperature, [`top_k`], [`top_p`], [`min_p`]. [`penalise`] comes before all.
///
/// # Panics
/// Where `logits` is empty, the temperature is negative, or `top_k` is `Some(0)`.
pub fn filter(logits: &[f64], stages: &Stages) -> Vec<f64> {
    let temperature = stages.temperature;
    assert!(temperature >= 0.0, "temperature {temperature} is negative");
    if temperature == 0.0 {
        return top_k(logits, 1);
    }
    let mut kept = possible(logits);
    if let Some(count) = stages.top_k {
        kept = top_k(&kept, count);
    }
    if let Some(mass) = stages.top_p {
        kept = top_p(&kept, temperature, mass);
    }
    if let Some(share) = stages.min_p {
        kept = min_p(&kept, temperature, share);
    }
    kept
}

/// The distribution `[vocab]` that a token is drawn from, of `logits` `[vocab]`.
///
/// # Panics
/// As [`filter`].
pub fn distribution(logits: &[f64], stages: &Stages) -> Vec<f64> {
    let kept = filter(logits, stages);
    let temperature = match stages.temperature {
        0.0 => 1.0,
        temperature => temperature,
    };
    renormalise(&weights(&kept, temperature))
}

/// Divides positive `logits` `[vocab]` of the tokens in `context` by `penalty` and multiplies negative ones
/// with it, once however often a token is there. The result is an f32, as a logit is.
pub fn penalise(logits: &[f64], context: &[usize], penalty: f64) -> Vec<f64> {
    let mut penalised = logits.to_vec();
    for &id in context {
        let value = match logits[id] > 0.0 {
            true => logits[id] / penalty,
            false => logits[id] * penalty,
        };
        #[allow(clippy::cast_possible_truncation, reason = "rounds as logits are")]
        let rounded = value as f32;
        penalised[id] = f64::from(rounded);
    }
    penalised
}

/// `exp((logit - largest) / temperature)`, which softmax divides by the sum.
pub fn weights(logits: &[f64], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |&logit: &f64| match logit == largest {
        true => 1.0,
        false => ((logit - largest) / temperature).exp(),
    };
    possible(logits)
        .iter()
        .map(|logit| match *logit == f64::NEG_INFINITY {
            true => 0.0,
            false => weight(logit),
        })
        .collect()
}

/// `logits` `[vocab]` without those that have no probability beside an infinite one.
fn possible(logits: &[f64]) -> Vec<f64> {
    if !logits.contains(&f64::INFINITY) {
        return logits.to_vec();
    }
    let only = logits.iter().map(|&logit| match logit == f64::INFINITY {
        true => logit,
        false => f64::NEG_INFINITY,
    });
    only.collect()
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

/// Keeps a token of `logits` `[vocab]` while the share of mass before it is below `mass`.
///
/// "Before" is the order of falling probability, the lowest ids first on ties. At least one token
/// stays, and with a mass of 1 all do; the others become `-inf`.
pub fn top_p(logits: &[f64], temperature: f64, mass: f64) -> Vec<f64> {
    if mass >= 1.0 {
        return logits.to_vec();
    }
    let weights = weights(logits, temperature);
    let total: f64 = weights.iter().sum();
    let mut kept = vec![f64::NEG_INFINITY; logits.len()];
    let mut before = 0.0;
    for (rank, &id) in descending(logits).iter().enumerate() {
        if rank > 0 && before >= mass * total {
            break;
        }
        kept[id] = logits[id];
        before += weights[id];
    }
    kept
}

/// Keeps tokens of `logits` `[vocab]` whose probability is at least `share` of the largest's; the others
/// become `-inf`.
pub fn min_p(logits: &[f64], temperature: f64, share: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // By logarithms, which tell more probabilities apart.
    let is_kept = |logit: f64| logit == largest || largest - logit <= -share.ln() * temperature;
    let kept = logits.iter().map(|&logit| match is_kept(logit) {
        true => logit,
        false => f64::NEG_INFINITY,
    });
    kept.collect()
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
