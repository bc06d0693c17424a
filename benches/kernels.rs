//! Times every kernel: `cargo bench --profile dev --bench kernels [-- PART-OF-A-LABEL...]`.
//!
//! The time is the adapter's, so the profile of the host code does not matter.
#![allow(clippy::print_stdout, reason = "the table is the result")]

use gpu_tlm::bench;
use gpu_tlm::gpu::{Device, DeviceOptions, GpuError};

fn main() -> Result<(), GpuError> {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let device = Device::open(&DeviceOptions::default())?;
    println!("{} ({})", device.name(), device.driver());
    println!(
        "{:<30} {:<10} {:<44} {:>10} {:>9} {:>8}",
        "kernel", "variant", "shape", "ms", "GFLOP/s", "GB/s"
    );
    for row in bench::all_rows() {
        let label = row.label();
        if !wanted.is_empty() && !wanted.iter().any(|part| label.contains(part)) {
            continue;
        }
        let timing = row.run(&device)?;
        println!(
            "{:<30} {:<10} {:<44} {:>10.3} {:>9.2} {:>8.2}",
            row.kernel.name,
            row.kernel.variant,
            row.shape,
            timing.ms,
            timing.gflops(),
            timing.gb_per_s()
        );
    }
    Ok(())
}
