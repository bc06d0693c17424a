//! Rows of the matrix product: three forms, three epilogues, every edge of a tile, splits of k.

use super::{Table, added};
use crate::check::Case;
use crate::kernels::matmul::{self, Epilogue, Form};
use crate::reference::matmul as reference;

/// `(m, n, k)`: size one, around the tile of 64 and the slice of 16, one row as in decoding, and
/// two depths that are split.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (63, 65, 17),
    (64, 64, 16),
    (65, 63, 15),
    (1, 130, 64),
    (130, 1, 33),
    (40, 24, 100),
    (33, 70, 512),
    (10, 12, 1031),
];

pub(super) fn rows(table: &mut Table) {
    for (m, n, k) in SHAPES {
        for form in [Form::Nn, Form::Nt, Form::Tn] {
            for epilogue in ["store", "accumulate", "residual"] {
                // A deep product is split, and only the gradients of weights are deep.
                if epilogue == "residual" && k >= 512 {
                    continue;
                }
                let shape = format!("{m}x{n}x{k} {form:?} {epilogue}");
                table.add(&matmul::TILED, shape, move |case| {
                    build(case, (m, n, k), form, epilogue)
                });
            }
        }
    }
}

fn build(case: &mut Case, (m, n, k): (usize, usize, usize), form: Form, epilogue: &str) {
    let (a_rows, a_cols) = if form == Form::Tn { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if form == Form::Nt { (n, k) } else { (k, n) };
    let a = case.random(a_rows, a_cols, 1.0);
    let b = case.random(b_rows, b_cols, 1.0);
    let output = case.random(m, n, 1.0);
    let residual = case.random(m, n, 1.0);
    let shape = reference::MatmulShape { m, n, k };
    let product = match form {
        Form::Nn => reference::nn(&a.values, &b.values, shape),
        Form::Nt => reference::nt(&a.values, &b.values, shape),
        Form::Tn => reference::tn(&a.values, &b.values, shape),
    };
    let (how, want) = match epilogue {
        "accumulate" => (Epilogue::Accumulate, added(&output.values, product)),
        "residual" => (
            Epilogue::Residual(residual.tensor),
            added(&residual.values, product),
        ),
        _ => (Epilogue::Store, product),
    };
    matmul::matmul(&mut case.plan, form, a.tensor, b.tensor, output.tensor, how);
    case.expect("output", output.tensor, want);
}
