//! Every kernel against its f64 reference, on the adapter of this machine.

use std::collections::BTreeSet;

use gpu_tlm::check::{self, SkippedBy};
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::kernels;

/// A missing adapter is a failure, never a skip.
#[test]
fn kernels_match_the_reference() {
    let open = || Device::open(&DeviceOptions::default());
    let rows = check::all_rows();
    let report = check::run(&open().unwrap(), &rows, false, open, || ()).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.rows.len() + report.skipped.len(), rows.len());
    // Each row ran the kernel that it names.
    for row in &report.rows {
        let label = match row.variant.as_str() {
            "portable" => row.kernel.clone(),
            variant => format!("{}.{variant}", row.kernel),
        };
        assert!(row.kernels.contains(&label), "{row:?}");
    }
    // A shape that the kernel cannot run on any adapter stays out, and else only a tensor past what
    // this one binds, or a kernel that needs what it lacks, with the limit's or feature's name.
    let by_shape = report.skipped.iter().filter(|s| s.by == SkippedBy::Shape);
    let impossible = rows.iter().filter(|row| row.obstacle().is_some());
    assert_eq!(by_shape.count(), impossible.count());
    let reasons = [
        "max_storage_buffer_binding_size",
        "it needs subgroups",
        "it needs cooperative matrices",
    ];
    for skipped in report.skipped.iter().filter(|s| s.by != SkippedBy::Shape) {
        let named = reasons.iter().any(|reason| skipped.reason.contains(reason));
        assert!(named, "{skipped:?}");
    }
}

#[test]
fn every_kernel_has_a_parity_row() {
    let rows: BTreeSet<_> = check::all_rows()
        .iter()
        .map(|row| row.kernel.label())
        .collect();
    let all: BTreeSet<_> = kernels::ALL.iter().map(|kernel| kernel.label()).collect();
    let missing: Vec<_> = all.difference(&rows).collect();
    assert!(missing.is_empty(), "no parity row for {missing:?}");
    assert_eq!(rows, all);
}
