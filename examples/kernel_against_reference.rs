//! Runs one kernel, RMSNorm, on this machine's adapter and holds it against its reference in f64.
//!
//! `cargo run --example kernel_against_reference`
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use gpu_tlm::gpu::{Device, DeviceOptions, Elements, Executable, GpuError, Memory, Plan};
use gpu_tlm::kernels::rmsnorm;
use gpu_tlm::reference;

const ROWS: usize = 5;
const COLS: usize = 36;
const EPS: f32 = 1e-5;

fn main() -> Result<(), GpuError> {
    let device = Device::open(&DeviceOptions::default())?;

    // A plan is data: tensors, and the dispatches that kernels' functions push.
    let mut plan = Plan::new(device.target());
    plan.isolate_scratch();
    let section = plan.section();
    let input = plan.scratch("input", ROWS, COLS);
    let weight = plan.scratch("weight", 1, COLS);
    let (output, _) = rmsnorm::forward(&mut plan, input, weight, EPS, Elements::Words);
    for chosen in plan.chosen() {
        println!(
            "{}: {} ({})",
            chosen.class,
            chosen.recipe,
            chosen.reason.name()
        );
    }

    // An executable is the plan on a device: pipelines, memory, bindings.
    let executable = Executable::compile(&plan, &device, &Memory::default().allocate(&device)?)?;
    let inputs: Vec<f32> = (0u8..180).map(|i| f32::from(i % 17) - 8.0).collect();
    let weights: Vec<f32> = (0u8..36).map(|i| 1.0 + f32::from(i) / 36.0).collect();
    executable.write_scratch(&device, input, &inputs);
    executable.write_scratch(&device, weight, &weights);
    executable.run(&device, section)?;
    let got: Vec<f32> = executable.read_scratch(&device, output)?;

    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let (want, _) = reference::rmsnorm::forward(&wide(&inputs), &wide(&weights), EPS.into());
    let errors = got
        .iter()
        .zip(&want)
        .map(|(g, w)| (f64::from(*g) - w).abs() / (1.0 + w.abs()));
    let worst = errors.fold(0.0, f64::max);
    println!("{} elements, worst error {worst:.1e}", got.len());
    assert!(worst <= 1e-5, "{worst:e}");
    Ok(())
}
