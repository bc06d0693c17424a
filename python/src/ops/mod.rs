//! One function a kernel op: numpy in, one run on the device, numpy out.

pub(crate) mod attention;
pub(crate) mod layers;
pub(crate) mod loss;
pub(crate) mod norms;
pub(crate) mod optimiser;
pub(crate) mod products;

use gpu_tlm::gpu::{HostRun, Tensor};
use pyo3::prelude::*;

use crate::device;
use crate::errors::detached;

/// Runs what `push` pushes, and gives the elements of the tensors that it returns as f32.
pub(crate) fn run<const N: usize>(
    py: Python<'_>,
    push: impl FnOnce(&mut HostRun) -> [Tensor; N] + Send,
) -> PyResult<[Vec<f32>; N]> {
    let words = run_words(py, push)?;
    Ok(words.map(|words| words.into_iter().map(f32::from_bits).collect()))
}

/// [`run`] without a look at what the elements are.
pub(crate) fn run_words<const N: usize>(
    py: Python<'_>,
    push: impl FnOnce(&mut HostRun) -> [Tensor; N] + Send,
) -> PyResult<[Vec<u32>; N]> {
    let mut results = run_several(py, |run| push(run).to_vec())?.into_iter();
    Ok([(); N].map(|()| results.next().unwrap_or_default()))
}

/// [`run_words`] of as many tensors as `push` returns.
pub(crate) fn run_several(
    py: Python<'_>,
    push: impl FnOnce(&mut HostRun) -> Vec<Tensor> + Send,
) -> PyResult<Vec<Vec<u32>>> {
    detached(py, || {
        let device = device::open(None)?;
        let mut run = HostRun::new(&device);
        let outputs = push(&mut run);
        Ok(run.run(&device, &outputs)?)
    })
}
