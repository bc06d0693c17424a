//! Rows of the probes, since a ceiling of a wrong kernel is no ceiling.

use super::Table;
use crate::kernels::probe::{self, FACTOR_AND_TERM, TILE};
use crate::reference::probe as reference;

pub(super) fn rows(table: &mut Table) {
    for (len, iterations) in [(1, 1), (63, 2), (65, 3)] {
        let shape = format!("{len}, iterations {iterations}");
        table.add_once(&probe::FMA, shape, move |case| {
            let input = case.random(1, len, 1.0);
            let output = probe::fma(&mut case.plan, input.tensor, iterations);
            let (factor, term) = FACTOR_AND_TERM;
            let want = reference::fma(&input.values, (factor.into(), term.into()), 8 * iterations);
            case.expect("output", output, want);
        });
    }
    for (len, lanes) in [(1, 256), (511, 256)] {
        let shape = format!("{len} by workgroups of {lanes}");
        table.add_once(&probe::FMA, shape, move |case| {
            let input = case.random(1, len, 1.0);
            let output = probe::fma_by(&mut case.plan, lanes, input.tensor, 2);
            let (factor, term) = FACTOR_AND_TERM;
            let want = reference::fma(&input.values, (factor.into(), term.into()), 16);
            case.expect("output", output, want);
        });
    }
    for len in [4, 252, 256, 1028] {
        table.add_once(&probe::COPY, format!("{len}"), move |case| {
            let input = case.random(1, len, 1.0);
            let output = probe::copy(&mut case.plan, input.tensor);
            case.expect_within("output", output, input.values, 0.0);
        });
    }
    for (lanes, iterations) in [(64, 1), (128, 200)] {
        let shape = format!("{lanes} lanes, iterations {iterations}");
        table.add_once(&probe::WORKGROUP, shape, move |case| {
            let input = case.random(1, TILE, 1.0);
            let output = probe::workgroup(&mut case.plan, input.tensor, lanes, iterations);
            let want = reference::workgroup(&input.values, lanes, iterations);
            case.expect("output", output, want);
        });
    }
}
