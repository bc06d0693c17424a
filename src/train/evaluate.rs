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
    let passes = dataset.passes(windows, engine.windows_per_pass());
    engine.evaluate::<Error>(passes)
}
