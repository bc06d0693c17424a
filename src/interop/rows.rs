//! The order of elements in files of other programs, against ours: transposed matrices, and heads whose rows lie
//! as halves where ours lie as pairs.

/// Row `row` of ours, of heads of `head_dim` rows as pairs, is this row of theirs, of heads as halves.
fn half_split_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within / 2 + within % 2 * (head_dim / 2)
}

/// Rows `[rows, cols]` whose heads lie as halves, as pairs: what the interleaved rotary embedding turns.
pub(super) fn pairs_of_halves<T: Copy>(values: &[T], cols: usize, head_dim: usize) -> Vec<T> {
    let rows = 0..values.len() / cols;
    let row = |row: usize| {
        let first = half_split_row(row, head_dim) * cols;
        &values[first..first + cols]
    };
    rows.flat_map(row).copied().collect()
}

/// The other way round.
pub(super) fn halves_of_pairs<T: Copy + Default>(
    values: &[T],
    cols: usize,
    head_dim: usize,
) -> Vec<T> {
    let mut halves = vec![T::default(); values.len()];
    for (row, own) in values.chunks_exact(cols).enumerate() {
        let first = half_split_row(row, head_dim) * cols;
        halves[first..first + cols].copy_from_slice(own);
    }
    halves
}

/// `[rows, cols]` as `[cols, rows]`.
pub(super) fn transposed<T: Copy>(values: &[T], cols: usize) -> Vec<T> {
    let rows = values.len() / cols.max(1);
    let column = |col: usize| (0..rows).map(move |row| values[row * cols + col]);
    (0..cols).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs_and_pairs_halves() {
        // Two heads of four rows of two columns, named by the row where they lie.
        let halves: Vec<usize> = (0..8).flat_map(|row| [10 * row, 10 * row + 1]).collect();
        let pairs = pairs_of_halves(&halves, 2, 4);
        let rows: Vec<usize> = pairs.iter().step_by(2).map(|value| value / 10).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(halves_of_pairs(&pairs, 2, 4), halves);
    }

    #[test]
    fn a_matrix_is_transposed() {
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
        assert_eq!(transposed(&[1, 4, 2, 5, 3, 6], 2), [1, 2, 3, 4, 5, 6]);
    }
}
