//! Rows of the copies of operands in textures.

use super::Table;
use crate::gpu::{Elements, Kernel, Window};
use crate::kernels::matmul_stage::{self, COLS_MULTIPLE, ROWS_MULTIPLE};
use crate::reference::matmul_stage as reference;

/// Rows and columns of a matrix, and the first row and column of a window in it or in its transpose.
const STAGED_WINDOWS: [(usize, usize, usize, usize); 8] = [
    (1, 1, 0, 0),
    (7, 63, 0, 0),
    (9, 65, 0, 0),
    (70, 130, 3, 5),
    (1, 4, 0, 0),
    (33, 64, 0, 3),
    (72, 136, 4, 9),
    (70, 132, 2, 1),
];

pub(super) fn rows(table: &mut Table) {
    for (rows, cols, first_row, first_col) in STAGED_WINDOWS {
        for transposed in [false, true] {
            let quads = transposed && cols % 4 == 0 && first_row % 4 == 0;
            let kernel = if quads {
                &matmul_stage::STAGE_TRANSPOSED
            } else {
                &matmul_stage::STAGE
            };
            staged_row(
                table,
                kernel,
                (rows, cols),
                (first_row, first_col),
                transposed,
            );
        }
    }
}

/// A matrix of `[rows, cols]`, and a window in it or in its transpose that begins at `first`.
pub(super) fn staged_row(
    table: &mut Table,
    kernel: &'static Kernel,
    (rows, cols): (usize, usize),
    (first_row, first_col): (usize, usize),
    transposed: bool,
) {
    let shape = format!("{rows}x{cols} from {first_row}, {first_col}, transposed {transposed}");
    let (all_rows, all_cols) = if transposed {
        (cols, rows)
    } else {
        (rows, cols)
    };
    let operands = kernel.bindings[0].elements.unwrap_or(Elements::Words);
    table.add_once(kernel, shape, move |case| {
        let input = case.random_of(operands, rows, cols, 1.0);
        let window = Window {
            tensor: input.tensor,
            transposed,
            first_row,
            rows: all_rows - 2 * first_row,
            first_col,
            cols: all_cols - 2 * first_col,
        };
        let staged = matmul_stage::stage(&mut case.plan, window);
        let part = (
            first_row..all_rows - first_row,
            first_col..all_cols - first_col,
        );
        let padded = (
            part.0.len().next_multiple_of(ROWS_MULTIPLE),
            part.1.len().next_multiple_of(COLS_MULTIPLE),
        );
        let want = reference::stage(&input.values, cols, transposed, part, padded);
        case.expect_texture("staged", staged, want);
    });
}
