//! Rows of the product with a number.

use super::{Table, side_by_side};
use crate::kernels::{by_width, scale};
use crate::reference;

pub(super) fn rows(table: &mut Table) {
    for (rows, cols, gap) in [(1, 1, 0), (67, 4, 0), (130, 8, 4), (33, 5, 0), (32, 6, 2)] {
        let kernel = by_width(cols | (cols + gap), &scale::SCALE, &scale::SCALE_QUADS).0;
        let shape = format!("{rows}x{cols}, {gap} columns behind");
        table.add_once(kernel, &shape, move |case| {
            let [values, behind] = [cols, gap].map(|cols| case.random(rows, cols, 1.0).values);
            let whole = side_by_side(rows, &[&values, &behind]);
            let whole = case.floats(rows, cols + gap, whole).tensor;
            scale::scale(&mut case.plan, whole.columns(0, cols), -1.75);
            // What is behind stays as it is.
            let want = reference::scale::scale(&values, -1.75);
            case.expect("values", whole, side_by_side(rows, &[&want, &behind]));
        });
    }
}
