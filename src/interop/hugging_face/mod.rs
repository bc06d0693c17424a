//! Folders of `transformers`: `config.json` and `model.safetensors`, in one or several files.

mod config;
mod write;

use std::path::Path;

pub(super) use config::gpt2_architecture;
pub(crate) use write::{Model, write};

use super::names::Naming;
use super::safetensors::Safetensors;
use super::torch::TorchFile;
use super::{InteropError, TensorSource};
use crate::config::ModelConfig;

/// What makes a folder one of these.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A state dict of PyTorch.
const OLDER_WEIGHTS: &str = "pytorch_model.bin";

/// Whether the folder at `path` is one of these.
pub(super) fn is_one(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// Opens the folder at `path`.
///
/// # Errors
/// When a file is missing or damaged, or the model is of a kind that is not supported.
pub(super) fn open(
    path: &Path,
) -> Result<(ModelConfig, Naming, Box<dyn TensorSource>), InteropError> {
    let config::HuggingFaceConfig { model, naming } = config::read(&path.join(CONFIG))?;
    // In the order in which `transformers` looks.
    let [one, index, older] = [WEIGHTS, INDEX, OLDER_WEIGHTS].map(|name| path.join(name));
    let source: Box<dyn TensorSource> = match () {
        () if one.is_file() => Box::new(Safetensors::open(&one)?),
        () if index.is_file() => Box::new(Safetensors::open_index(&index)?),
        () if older.is_file() => Box::new(TorchFile::open(&older)?),
        () => Box::new(Safetensors::open(&one)?),
    };
    Ok((model, naming, source))
}
