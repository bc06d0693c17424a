//! The copy of an operand with k along its rows, padded with zeros.

/// Rows `rows` and columns `cols` of `input` `[_, stride]`, or of its transpose, padded with zeros
/// to `padded` rows and columns.
///
/// # Panics
/// Where the padded size is smaller than the window.
pub fn stage(
    input: &[f64],
    stride: usize,
    transposed: bool,
    (rows, cols): (std::ops::Range<usize>, std::ops::Range<usize>),
    padded: (usize, usize),
) -> Vec<f64> {
    assert!(
        rows.len() <= padded.0 && cols.len() <= padded.1,
        "the padding holds the window"
    );
    let mut staged = vec![0.0; padded.0 * padded.1];
    for (y, row) in rows.enumerate() {
        for (x, col) in cols.clone().enumerate() {
            let index = if transposed {
                col * stride + row
            } else {
                row * stride + col
            };
            staged[y * padded.1 + x] = input[index];
        }
    }
    staged
}
