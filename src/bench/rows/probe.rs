//! Rows of the probes, which measure the adapter's own ceilings.

use super::{Table, tensor};
use crate::gpu::AdapterClass;
use crate::kernels::probe;

/// Sizes that keep an adapter busy for some milliseconds: a GPU is a thousand times as fast as a
/// driver that runs on the CPU.
struct ProbeSizes {
    fma_lanes: usize,
    fma_iterations: usize,
    copied: usize,
    workgroup_lanes: usize,
    workgroup_iterations: usize,
}

fn probe_sizes(class: AdapterClass) -> ProbeSizes {
    match class {
        AdapterClass::Gpu => ProbeSizes {
            fma_lanes: 1 << 17,
            fma_iterations: 1024,
            copied: 1 << 24,
            workgroup_lanes: 1 << 17,
            workgroup_iterations: 1024,
        },
        AdapterClass::Software => ProbeSizes {
            fma_lanes: 1 << 13,
            fma_iterations: 256,
            copied: 1 << 22,
            workgroup_lanes: 1 << 12,
            workgroup_iterations: 64,
        },
    }
}

pub(super) fn rows(table: &mut Table) {
    table.add(&probe::FMA, "registers".to_owned(), |case| {
        let sizes = probe_sizes(case.plan.class());
        let input = tensor(case, 1, sizes.fma_lanes);
        probe::fma(&mut case.plan, input, sizes.fma_iterations);
    });
    table.add(&probe::COPY, "buffer to buffer".to_owned(), |case| {
        let len = probe_sizes(case.plan.class()).copied;
        let values = (0..len).map(|i| (i % 509) as f64).collect();
        let input = case.floats(1, len, values);
        let output = probe::copy(&mut case.plan, input.tensor);
        case.expect_within("output", output, input.values, 0.0);
    });
    table.add(&probe::WORKGROUP, "workgroup memory".to_owned(), |case| {
        let sizes = probe_sizes(case.plan.class());
        let input = case.random(1, probe::TILE, 1.0);
        let (lanes, iterations) = (sizes.workgroup_lanes, sizes.workgroup_iterations);
        probe::workgroup(&mut case.plan, input.tensor, lanes, iterations);
    });
    if let Some(row) = table.rows.last_mut() {
        row.bytes = Some(|class| {
            let sizes = probe_sizes(class);
            4 * probe::LOADS_PER_ITERATION * sizes.workgroup_iterations * sizes.workgroup_lanes
        });
    }
}
