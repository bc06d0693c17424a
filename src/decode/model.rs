//! A checkpoint's weights on a device, without gradients and moments.

use std::path::Path;

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::gpu::{Device, Memory, PersistentId};
use crate::model::{ParameterTable, Transformer};

/// A model ready for forward passes.
pub struct InferenceModel {
    /// Its shape.
    pub config: ModelConfig,
    /// Its layers.
    pub transformer: Transformer,
    /// Names and places of its weights.
    pub table: ParameterTable,
    checkpoint: Checkpoint,
}

impl InferenceModel {
    /// Opens the checkpoint at `path`; weights are read when they are uploaded.
    ///
    /// # Errors
    /// When it is missing, damaged, or not one of ours.
    pub fn open(path: &Path, max_binding_words: usize) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.model()?;
        let table = ParameterTable::new(&config, &[], max_binding_words);
        let transformer = Transformer::new(&config, &table);
        Ok(Self {
            config,
            transformer,
            table,
            checkpoint,
        })
    }

    /// The file that the model came from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Declares the weights' buffers.
    pub fn declare(&self, memory: &mut Memory) -> Vec<PersistentId> {
        self.table.declare(memory, "parameters")
    }

    /// Writes the weights to the buffers that [`InferenceModel::declare`] made.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn upload(
        &self,
        device: &Device,
        buffers: &crate::gpu::Buffers,
        ids: &[PersistentId],
    ) -> Result<(), Error> {
        for parameter in self.table.iter() {
            let values = self.checkpoint.values("", parameter)?;
            parameter.write(device, buffers, ids, &values);
        }
        Ok(())
    }
}
