//! Rows of the conversions between f32 and 2-byte floats, and of copies of the latter.

use half::f16;

use super::Table;
use super::matmul_stage::staged_row;
use crate::check::Case;
use crate::gpu::tensor::COLUMNS_MULTIPLE;
use crate::kernels::half::{self as op, HALVE, HALVE_QUADS, WIDEN, WIDEN_QUADS};
use crate::kernels::matmul_stage::{STAGE_F16, STAGE_TRANSPOSED_F16};
use crate::reference::half as reference;

const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 8), (7, 5), (5, 12), (130, 66), (64, 128)];

pub(super) fn rows(table: &mut Table) {
    for (rows, cols) in SHAPES {
        let quads = cols % 4 == 0;
        let kernel = if quads { &HALVE_QUADS } else { &HALVE };
        for factor in [None, Some(0.5), Some(4096.0)] {
            let times = factor.map_or(String::new(), |f: f64| format!(" times {f}"));
            table.add_once(kernel, format!("{rows}x{cols}{times}"), move |case| {
                halve_row(case, rows, cols, factor);
            });
        }
        let kernel = if quads { &WIDEN_QUADS } else { &WIDEN };
        table.add_once(kernel, format!("{rows}x{cols}"), move |case| {
            let input = case.random_halves(rows, cols, 1.0);
            let output = op::widen(&mut case.plan, input.tensor);
            case.expect_exactly("output", output, &input.values);
        });
    }
    table.add_once(&HALVE_QUADS, "every edge of the format", edges);
    table.add_once(&HALVE, "columns of a wider matrix", columns);
    table.add_once(&WIDEN_QUADS, "every finite half", |case| {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let finite: Vec<f16> = halves
            .into_iter()
            .filter(|h| h.is_finite() && !is_subnormal(*h))
            .collect();
        let finite = &finite[..finite.len() / 8 * 8];
        let input = case.halves(finite.len() / 8, 8, finite);
        let output = op::widen(&mut case.plan, input.tensor);
        case.expect_exactly("output", output, &input.values);
    });
    for (rows, cols, first_row, first_col) in [
        (1, 1, 0, 0),
        (7, 63, 0, 0),
        (9, 65, 0, 4),
        (70, 130, 4, 8),
        (72, 136, 8, 4),
    ] {
        for (kernel, transposed) in [(&STAGE_F16, false), (&STAGE_TRANSPOSED_F16, true)] {
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

/// WGSL lets an adapter read those as zero.
fn is_subnormal(half: f16) -> bool {
    half.to_bits() & 0x7c00 == 0 && half.to_bits() & 0x3ff != 0
}

fn halve_row(case: &mut Case, rows: usize, cols: usize, factor: Option<f64>) {
    let input = case.random(rows, cols, 1.0);
    let by = factor.map(|f| case.floats(1, 1, vec![f]).tensor);
    let output = op::halve(&mut case.plan, input.tensor, by);
    let want = reference::halve(&input.values, factor.unwrap_or(1.0));
    case.expect_exactly("output", output, &want);
}

/// Three matrices side by side, made from the last to the first, so that one which wrote to its neighbour
/// would show; and read alone again.
fn columns(case: &mut Case) {
    let inputs = [(); 3].map(|()| case.random(5, 9, 1.0));
    let whole = case.plan.scratch_halves("output", 5, 3 * COLUMNS_MULTIPLE);
    for (number, input) in inputs.iter().enumerate().rev() {
        let part = whole.columns(COLUMNS_MULTIPLE * number, 9);
        op::halve_into(&mut case.plan, input.tensor, None, part);
    }
    for (number, input) in inputs.iter().enumerate() {
        let widened = op::widen(&mut case.plan, whole.columns(COLUMNS_MULTIPLE * number, 9));
        let want = reference::halve(&input.values, 1.0);
        case.expect_exactly("columns", widened, &want);
    }
}

/// Ties to even both ways, the largest half and what rounds to infinity, the smallest ones and what
/// rounds to zero.
fn edges(case: &mut Case) {
    let tiny = 2f64.powi(-24);
    let ulp = 2f64.powi(-10);
    let near = 2f64.powi(-20);
    let positive = [
        0.0,
        1.0,
        1.0 + ulp / 2.0,
        1.0 + 1.5 * ulp,
        1.0 + ulp / 2.0 + near,
        1.0 + ulp / 2.0 - near,
        2.0 - ulp / 4.0,
        65_504.0,
        65_519.0,
        65_520.0,
        1e30,
        f64::INFINITY,
        tiny,
        tiny / 2.0,
        tiny * 0.75,
        tiny * 1.5,
        tiny * 2.5,
        1023.0 * tiny,
        1023.5 * tiny,
        1023.4 * tiny,
        1024.0 * tiny,
        1e-30,
        0.1,
        1.0 / 3.0,
    ];
    let values: Vec<f64> = positive
        .iter()
        .chain(&positive.map(|v| -v))
        .copied()
        .collect();
    // As the device gets them.
    #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
    let given: Vec<f64> = values.iter().map(|&v| f64::from(v as f32)).collect();
    let want = reference::halve(&given, 1.0);
    let input = case.floats(values.len() / 8, 8, values);
    let output = op::halve(&mut case.plan, input.tensor, None);
    case.expect_exactly("output", output, &want);
}
