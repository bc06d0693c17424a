//! What is wrong with a file of another program, by the tensor or entry where it is.

use std::path::PathBuf;

use crate::config::ConfigError;

/// An error of a model's file or folder in a format of another program.
#[derive(Debug, thiserror::Error)]
pub enum InteropError {
    /// Missing or unreadable.
    #[error("cannot read '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not a file of its format, or a damaged one.
    #[error("'{}' is no sound {format} file: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Of no format that is read.
    #[error(
        "'{}' is {found}; models are read from checkpoints of gpu-tlm, Hugging Face folders, PyTorch \
         checkpoints, GGUF, llama2.c and safetensors files",
        path.display()
    )]
    Unknown {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// A checkpoint of our own, where another program's model is wanted.
    #[error("'{}' is a checkpoint of gpu-tlm already", path.display())]
    Own {
        /// The file.
        path: PathBuf,
    },
    /// A model without a tokenizer, where that is wanted.
    #[error("'{}' brings no tokenizer along", path.display())]
    NoTokenizer {
        /// The file or folder.
        path: PathBuf,
    },
    /// The file says something else than what was asked for.
    #[error("'{}' has a model with {key} = {found}, and not {wanted}", path.display())]
    OtherShape {
        /// The file.
        path: PathBuf,
        /// The key that differs.
        key: String,
        /// What the file says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A tensor that is damaged, or of another shape or type than is needed.
    #[error("'{}': tensor '{name}' {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it, as a verb and its object.
        problem: String,
    },
    /// A tensor that the model needs is not there.
    #[error("'{}' has no tensor '{name}', which the model needs", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that the model has no place for.
    #[error(
        "'{}' has a tensor '{name}', which the model has no place for; the file may be of another kind \
         of model",
        path.display()
    )]
    Extra {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The file does not say everything of the model's shape.
    #[error(
        "'{}' does not say what its model's {} {}; give {}",
        path.display(),
        keys.join(", "),
        if keys.len() == 1 { "is" } else { "are" },
        if keys.len() == 1 { "it" } else { "them" }
    )]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// The keys that it leaves open.
        keys: Vec<&'static str>,
    },
    /// The shape that the file describes is none that can be built.
    #[error("'{}' holds a model that cannot be built: {source}", path.display())]
    BadModel {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ConfigError,
    },
    /// A format that cannot hold a model.
    #[error("{format} cannot hold this model: {reason}")]
    CannotHold {
        /// The name of the format.
        format: &'static str,
        /// What it has no place for.
        reason: String,
    },
    /// Something sound that is not supported.
    #[error("'{}': {what} is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it has.
        what: String,
    },
    /// It cannot be written.
    #[error("cannot write '{}': {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl InteropError {
    /// Whether the request was wrong, rather than a file.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::OtherShape { .. }
                | Self::Incomplete { .. }
                | Self::CannotHold { .. }
                | Self::Own { .. }
                | Self::NoTokenizer { .. }
        )
    }
}
