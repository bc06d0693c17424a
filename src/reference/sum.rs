//! The sum over the leading axis, which ends every reduction that was split into parts.

use super::exact_parts;

/// Adds the rows of `partials` `[n, len]`; returns `[len]`.
///
/// # Panics
/// Where `partials` holds no whole number of rows.
pub fn sum_leading(partials: &[f64], len: usize) -> Vec<f64> {
    let n = exact_parts("partials", partials.len(), len);
    let mut total = vec![0.0; len];
    for part in 0..n {
        for index in 0..len {
            total[index] += partials[part * len + index];
        }
    }
    total
}
