//! Prepares batches on a thread of its own, so that the device never waits for the host to gather,
//! sort and pack tokens.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::engine::{PackedBatch, Packer};
use crate::data::batches::BatchOrder;
use crate::data::dataset::{Dataset, DatasetError};

/// Batches that wait for the loop at most; one is enough to overlap, two smooth a slow page.
const AHEAD: usize = 2;

/// The batches of some iterations, in order.
pub struct Prefetch {
    batches: Receiver<Result<PackedBatch, DatasetError>>,
}

impl Prefetch {
    /// Starts to prepare the batches of `iterations`. The thread ends after the last of them, at
    /// the first error, or when this is dropped.
    pub fn start(
        data: Arc<Dataset>,
        order: BatchOrder,
        packer: Packer,
        iterations: Range<u64>,
    ) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            for iteration in iterations {
                let packed = data
                    .batch(&order.starts(iteration))
                    .map(|batch| packer.pack(&batch));
                let failed = packed.is_err();
                if sender.send(packed).is_err() || failed {
                    return;
                }
            }
        });
        Self { batches }
    }

    /// The batch of the next iteration.
    ///
    /// # Errors
    /// When the token file holds something else than when it was opened.
    ///
    /// # Panics
    /// Past the last iteration: a bug of the caller.
    pub fn next_batch(&self) -> Result<PackedBatch, DatasetError> {
        let next = self.batches.recv();
        next.expect("the thread sends a batch for every iteration")
    }
}
