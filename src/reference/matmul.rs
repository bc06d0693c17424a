//! Matrix products in the three forms that a linear layer and its gradients need.

use super::assert_len;

/// The sizes of a product: `m` rows and `n` columns of the output, `k` terms in each sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulShape {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// Terms in each sum.
    pub k: usize,
}

/// `a b`, with `a` `[m, k]` and `b` `[k, n]`; returns `[m, n]`.
///
/// # Panics
/// Where a slice does not fit `shape`.
pub fn nn(a: &[f64], b: &[f64], shape: MatmulShape) -> Vec<f64> {
    let MatmulShape { m, n, k } = shape;
    assert_len("a", a, m * k);
    assert_len("b", b, k * n);
    let mut output = vec![0.0; m * n];
    for row in 0..m {
        let output_row = &mut output[row * n..][..n];
        for inner in 0..k {
            let factor = a[row * k + inner];
            let b_row = &b[inner * n..][..n];
            for col in 0..n {
                output_row[col] += factor * b_row[col];
            }
        }
    }
    output
}

/// `a transpose(b)`, with `a` `[m, k]` and `b` `[n, k]`; returns `[m, n]`.
///
/// # Panics
/// Where a slice does not fit `shape`.
pub fn nt(a: &[f64], b: &[f64], shape: MatmulShape) -> Vec<f64> {
    let MatmulShape { m, n, k } = shape;
    assert_len("a", a, m * k);
    assert_len("b", b, n * k);
    let mut output = vec![0.0; m * n];
    for row in 0..m {
        let a_row = &a[row * k..][..k];
        for col in 0..n {
            let b_row = &b[col * k..][..k];
            let mut total = 0.0;
            for inner in 0..k {
                total += a_row[inner] * b_row[inner];
            }
            output[row * n + col] = total;
        }
    }
    output
}

/// `transpose(a) b`, with `a` `[k, m]` and `b` `[k, n]`; returns `[m, n]`.
///
/// # Panics
/// Where a slice does not fit `shape`.
pub fn tn(a: &[f64], b: &[f64], shape: MatmulShape) -> Vec<f64> {
    let MatmulShape { m, n, k } = shape;
    assert_len("a", a, k * m);
    assert_len("b", b, k * n);
    let mut output = vec![0.0; m * n];
    for row in 0..m {
        let output_row = &mut output[row * n..][..n];
        for inner in 0..k {
            let factor = a[inner * m + row];
            let b_row = &b[inner * n..][..n];
            for col in 0..n {
                output_row[col] += factor * b_row[col];
            }
        }
    }
    output
}
