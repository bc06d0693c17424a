//! `output[i] = factor * values[i]`.

/// Multiplies `values` by `factor`.
pub fn scale(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|value| factor * value).collect()
}
