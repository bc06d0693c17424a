//! Times every kernel: `cargo bench --profile dev --bench kernels [-- PART-OF-A-LABEL...]`.
//!
//! The time is the adapter's, so the profile of the host code does not matter.
#![allow(clippy::print_stdout, reason = "the table is the result")]

use gpu_tlm::Error;
use gpu_tlm::bench;
use gpu_tlm::cli::bench::describe;
use gpu_tlm::gpu::{Device, DeviceOptions};

fn main() -> Result<(), Error> {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let device = Device::open(&DeviceOptions::default())?;
    let mut rows = bench::all_rows();
    rows.retain(|row| {
        let label = row.label();
        wanted.is_empty() || wanted.iter().any(|part| label.contains(part))
    });
    let report = bench::run(&device, &rows, |row| eprintln!("{}", row.label()))?;
    println!("{}", describe(&device, &report));
    Ok(report.verdict()?)
}
