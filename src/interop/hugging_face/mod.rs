//! Folders of `transformers`: `config.json` and `model.safetensors`, in one or several files.

mod config;
mod write;

use std::path::Path;

pub(super) use config::gpt2_architecture;
pub(crate) use write::write;

use super::names::Naming;
use super::safetensors::Safetensors;
use super::{InteropError, TensorSource};
use crate::config::ModelConfig;

/// What makes a folder one of these.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

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
    let index = path.join(INDEX);
    let source = match index.is_file() {
        true => Safetensors::open_index(&index)?,
        false => Safetensors::open(&path.join(WEIGHTS))?,
    };
    Ok((model, naming, Box::new(source)))
}
