//! Every kernel against its f64 reference, on the adapter of this machine.

use std::collections::BTreeSet;

use gpu_tlm::check;
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::kernels;

/// A missing adapter is a failure, never a skip.
#[test]
fn kernels_match_the_reference() {
    let open = || Device::open(&DeviceOptions::default());
    let report = check::run(&open().unwrap(), &check::all_rows(), false, open, || ()).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    // Only a tensor past what this adapter binds may stay out, or a kernel that needs what it lacks,
    // with the limit's or feature's name.
    let reasons = ["max_storage_buffer_binding_size", "it needs subgroups"];
    for skipped in &report.skipped {
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
    assert_eq!(rows, all);
}
