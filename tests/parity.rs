//! Every kernel against its f64 reference, on the adapter of this machine.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use gpu_tlm::check;
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::kernels;
use rayon::prelude::*;

fn device(checked: bool) -> Device {
    Device::open(&DeviceOptions {
        checked,
        ..DeviceOptions::default()
    })
    .unwrap()
}

/// One device for all tests; a missing adapter is a failure, never a skip.
fn shared_device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| device(false))
}

/// Rows run side by side: on a software adapter most of their time is the shader compiler's.
fn failures(device: &Device) -> Vec<String> {
    let outcome = |row: &check::Row| match row.run(device) {
        Ok(outcome) => outcome.failure.map(|f| format!("{}: {f}", row.label())),
        // A row past what this adapter binds is an error that names the limit, and no wrong result;
        // so is a kernel that needs what the adapter lacks.
        Err(error) if row.may_be_unsupported() && error.is_unsupported() => None,
        Err(error) => Some(format!("{}: {error}", row.label())),
    };
    check::all_rows().par_iter().filter_map(outcome).collect()
}

#[test]
fn kernels_match_the_reference() {
    let failures = failures(shared_device());
    assert!(
        failures.is_empty(),
        "{} rows failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
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
