//! The mean loss of passes on a device, one after the other, with the next one under way while the last
//! one's sum comes back.

use super::InputLayout;
use super::inputs::counted;
use crate::data::dataset::Batch;
use crate::gpu::{Buffers, Device, Executable, GpuError, PersistentId, Readback, SectionId};
use crate::kernels::cross_entropy::IGNORED;

/// A planned forward pass that leaves the sum of its losses in the first word of a buffer.
pub struct Score<'a> {
    /// Where it runs.
    pub device: &'a Device,
    /// The buffers of its plan.
    pub buffers: &'a Buffers,
    /// Its plan.
    pub executable: &'a Executable,
    /// The part of the plan that it is.
    pub section: SectionId,
    /// Layout of its inputs.
    pub layout: InputLayout,
    /// Where its inputs are.
    pub inputs: PersistentId,
    /// Where the sum is left.
    pub sum: PersistentId,
}

impl Score<'_> {
    /// Mean loss in nats over the targets of `passes` that count, each of tokens and as many targets, at most those
    /// of one pass; `readback` has nothing pending.
    ///
    /// # Errors
    /// Those of `passes`, and when the device fails.
    pub fn mean_loss<E: From<GpuError>>(
        &self,
        readback: &mut Readback,
        passes: impl Iterator<Item = Result<Batch, E>>,
    ) -> Result<f64, E> {
        let rows = self.layout.rows();
        let (mut total, mut count) = (0.0, 0);
        for pass in passes {
            let mut batch = pass?;
            count += counted(&batch.targets);
            batch.tokens.resize(rows, 0);
            batch.targets.resize(rows, IGNORED);
            if let Some(documents) = &mut batch.documents {
                documents.resize(rows, 0);
            }
            let documents = batch.documents.as_deref();
            let packed = self
                .layout
                .pack(&batch.tokens, &batch.targets, documents, 1.0);
            self.buffers.write(self.device, self.inputs, 0, &packed);
            self.executable.submit_and_read(
                self.device,
                readback,
                (self.buffers, self.sum),
                |recorder| recorder.replay(self.section),
            )?;
            if readback.pending() > 1 {
                total += self.take(readback)?;
            }
        }
        while readback.pending() > 0 {
            total += self.take(readback)?;
        }
        // No answer has no loss.
        Ok(total / count.max(1) as f64)
    }

    fn take(&self, readback: &mut Readback) -> Result<f64, GpuError> {
        let words: Option<Vec<f32>> = readback.take(self.device)?;
        Ok(words.map_or(0.0, |words| f64::from(words[0])))
    }
}
