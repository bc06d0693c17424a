//! A model's weights on a device, without gradients and moments.

use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::gpu::Device;
use crate::weights::{FlatIds, HostTensor, ParameterTable};

/// A model ready for forward passes.
pub struct InferenceModel {
    /// Its shape.
    pub config: ModelConfig,
    /// Names and places of its weights.
    pub table: ParameterTable,
    source: Source,
}

/// Where the weights come from.
enum Source {
    Checkpoint(Box<Checkpoint>),
    /// The initial values of this seed.
    Seed(u64),
    /// In the order of the table.
    Values(Arc<[HostTensor]>),
}

impl InferenceModel {
    /// Opens the checkpoint at `path`; weights are read when they are uploaded.
    ///
    /// # Errors
    /// When it is missing, damaged, or of no format that is read.
    pub fn open(path: &Path, max_binding_words: usize) -> Result<Self, Error> {
        Self::new(Checkpoint::open(path)?, max_binding_words)
    }

    /// The model of an open checkpoint.
    ///
    /// # Errors
    /// When there is no model in it that can be built.
    pub fn new(checkpoint: Checkpoint, max_binding_words: usize) -> Result<Self, Error> {
        let config = checkpoint.model()?;
        checkpoint.check(&config)?;
        let table = ParameterTable::new(&config, &[], max_binding_words);
        Ok(Self {
            config,
            table,
            source: Source::Checkpoint(Box::new(checkpoint)),
        })
    }

    /// A model that was never trained: its weights are the initial ones of `seed`. It says nothing, but
    /// takes as long for it as a trained one.
    pub fn initial(config: &ModelConfig, seed: u64, max_binding_words: usize) -> Self {
        Self {
            config: config.clone(),
            table: ParameterTable::new(config, &[], max_binding_words),
            source: Source::Seed(seed),
        }
    }

    /// A model of parameters that a program has, in the order of [`ParameterTable`].
    ///
    /// # Panics
    /// If there are more or fewer than the model has: a bug of the caller.
    pub fn of_values(
        config: &ModelConfig,
        values: Arc<[HostTensor]>,
        max_binding_words: usize,
    ) -> Self {
        let table = ParameterTable::new(config, &[], max_binding_words);
        assert_eq!(values.len(), table.iter().count(), "parameters");
        Self {
            config: config.clone(),
            table,
            source: Source::Values(values),
        }
    }

    /// The file that the model came from; none for other weights.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match &self.source {
            Source::Checkpoint(checkpoint) => Some(checkpoint),
            Source::Seed(_) | Source::Values(_) => None,
        }
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
        for (index, parameter) in self.table.iter().enumerate() {
            let tensor = match &self.source {
                Source::Checkpoint(checkpoint) => &checkpoint.read(&self.config, parameter)?,
                Source::Seed(seed) => &self.table.initial_values(index, *seed),
                Source::Values(values) => &values[index],
            };
            parameter.write(device, buffers, ids, tensor);
        }
        Ok(())
    }
}
