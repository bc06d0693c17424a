//! The benchmark's table against the kernels.

use std::collections::BTreeSet;

use gpu_tlm::{bench, kernels};

#[test]
fn every_kernel_has_a_bench_row() {
    let rows: BTreeSet<_> = bench::all_rows()
        .iter()
        .map(|row| row.kernel.label())
        .collect();
    let all: BTreeSet<_> = kernels::ALL.iter().map(|kernel| kernel.label()).collect();
    let missing: Vec<_> = all.difference(&rows).collect();
    assert!(missing.is_empty(), "no benchmark row for {missing:?}");
    assert_eq!(rows, all);
}
