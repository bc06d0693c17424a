//! Reads a row's outputs back before anything is timed: the time of a wrong result is worth nothing.

use crate::check::Case;
use crate::gpu::{Device, Executable, GpuError, Kernel, SectionId};

/// Runs the section twice on memory full of NaN and wants equal bits, no NaN left, and the
/// reference's values where the row has them. What is wrong is the inner error.
///
/// # Errors
/// When the device fails.
pub(super) fn outputs(
    kernel: &'static Kernel,
    case: &Case,
    device: &Device,
    executable: &Executable,
    section: SectionId,
) -> Result<Result<(), String>, GpuError> {
    let bounds = case.plan.outputs(section, kernel);
    let mut passes = Vec::new();
    for _ in 0..2 {
        executable.poison_scratch(device);
        case.upload(device, executable);
        executable.run(device, section)?;
        let read = |bound: &_| executable.read_bound(device, *bound);
        passes.push(bounds.iter().map(read).collect::<Result<Vec<_>, _>>()?);
    }
    if passes[0] != passes[1] {
        return Ok(Err("two runs gave different bits".to_owned()));
    }
    if let Some(index) = passes[0].iter().flatten().position(|&word| is_nan(word)) {
        return Ok(Err(format!(
            "element {index} of the outputs is not a number"
        )));
    }
    if case.has_reference() {
        let got = case.download(device, executable)?;
        if let Some(failure) = case.compare(&got).failure {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(()))
}

/// Tokens are small integers and so no NaN either.
fn is_nan(word: u32) -> bool {
    f32::from_bits(word).is_nan()
}
