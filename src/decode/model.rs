//! A checkpoint's weights on a device, without gradients and moments.

use std::path::Path;

use crate::Error;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ModelConfig;
use crate::gpu::Device;
use crate::weights::{FlatIds, ParameterTable};

/// A model ready for forward passes.
pub struct InferenceModel {
    /// Its shape.
    pub config: ModelConfig,
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
        Self::new(Checkpoint::open(path)?, max_binding_words)
    }

    /// The model of an open checkpoint.
    ///
    /// # Errors
    /// When there is no model in it that can be built.
    pub fn new(checkpoint: Checkpoint, max_binding_words: usize) -> Result<Self, Error> {
        let config = checkpoint.model()?;
        let table = ParameterTable::new(&config, &[], max_binding_words);
        Ok(Self {
            config,
            table,
            checkpoint,
        })
    }

    /// The file that the model came from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Writes the weights to buffers that the table has declared.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn upload(
        &self,
        device: &Device,
        buffers: &crate::gpu::Buffers,
        ids: &FlatIds,
    ) -> Result<(), Error> {
        for parameter in self.table.iter() {
            let tensor = self.checkpoint.weights().read("", parameter);
            let tensor = tensor.map_err(CheckpointError::from)?;
            parameter.write(device, buffers, ids, &tensor);
        }
        Ok(())
    }
}
