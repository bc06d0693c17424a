//! Mean loss over the first windows of a data set.

use super::engine::Engine;
use crate::Error;
use crate::data::dataset::Dataset;

/// Mean cross-entropy in nats over the targets of the first `windows` windows, each of which
/// starts where the one before ends; the same windows every time, so that figures compare.
///
/// # Errors
/// When the device fails or the file changed.
pub fn mean_loss(engine: &mut Engine, dataset: &Dataset, windows: usize) -> Result<f64, Error> {
    let starts: Vec<usize> = (0..windows).map(|w| w * dataset.context_length()).collect();
    let per_pass = engine.windows_per_pass();
    engine.evaluate(
        starts
            .chunks(per_pass)
            .map(|starts| dataset.batch(starts).map_err(Error::from)),
    )
}
