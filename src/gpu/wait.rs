//! Every wait for the device: what a browser's main thread could not do.

use std::sync::mpsc::Receiver;

use super::{Device, GpuError};

/// Waits for an answer of the driver.
pub(super) fn for_answer<T>(answer: impl Future<Output = T>) -> T {
    pollster::block_on(answer)
}

/// Waits until everything that was submitted is done.
pub(super) fn for_all(device: &Device) -> Result<(), GpuError> {
    poll(device, wgpu::PollType::wait_indefinitely())
}

/// Waits until `submission` is done.
pub(super) fn for_submission(
    device: &Device,
    submission: wgpu::SubmissionIndex,
) -> Result<(), GpuError> {
    let until = wgpu::PollType::Wait {
        submission_index: Some(submission),
        timeout: None,
    };
    poll(device, until)
}

fn poll(device: &Device, until: wgpu::PollType) -> Result<(), GpuError> {
    let waited = device.raw.poll(until);
    device.check()?;
    waited
        .map(|_| ())
        .map_err(|e| GpuError::Device(e.to_string()))
}

/// Takes what a callback of a submission that is done has sent.
pub(super) fn for_callback<T>(receiver: &Receiver<T>) -> Result<T, GpuError> {
    receiver.recv().map_err(|e| GpuError::Device(e.to_string()))
}
