//! What is wrong with a checkpoint.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::interop::InteropError;
use crate::weights::WeightsError;

/// An error of a checkpoint file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or a tensor in it cannot be read, or is not the model's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model of another program, which cannot be read.
    #[error(transparent)]
    Interop(#[from] InteropError),
    /// A model of another program, where a run's checkpoint is needed.
    #[error(
        "'{}' has no metadata of a run (iteration and config), which going on needs; bare weights can start \
         a new run (init_from)",
        path.display()
    )]
    NoRun {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint without moments, where a run is to go on.
    #[error(
        "'{}' has no moments of AdamW, which going on needs; its weights can start a new run (init_from)",
        path.display()
    )]
    NoMoments {
        /// The file.
        path: PathBuf,
    },
    /// Adapters without the model that they are of.
    #[error(
        "'{}' holds adapters of the model '{base}', which is not there; put it there, or say where it is",
        path.display()
    )]
    NoBase {
        /// The file or folder.
        path: PathBuf,
        /// Where the model should be, or its name.
        base: String,
    },
    /// Adapters beside another model than the one that they were trained with.
    #[error(
        "'{}' holds adapters of another model than '{}', whose '{name}' has other values; give the model that \
         they were trained with",
        path.display(),
        base.display()
    )]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// The model.
        base: PathBuf,
        /// The parameter that differs.
        name: String,
    },
    /// Adapters of adapters, and so on.
    #[error("'{}' is one of more than {most} adapters beside each other; merge some by an export", path.display())]
    TooDeep {
        /// The file.
        path: PathBuf,
        /// How many may be.
        most: usize,
    },
    /// The settings in the metadata are damaged.
    #[error("'{}' has a damaged config: {reason}; take another checkpoint", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is of another model than the config.
    #[error("'{}' was trained with {key} = {found}, but the config says {wanted}; make them agree", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The key that differs.
        key: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value in the config.
        wanted: String,
    },
    /// The checkpoint belongs to another tokenizer.
    #[error(
        "'{}' was trained with tokenizer {found}, but the given one is {given}; use the tokenizer \
         that made its token files, or have the difference ignored",
        path.display()
    )]
    OtherTokenizer {
        /// The file.
        path: PathBuf,
        /// Short hash of the checkpoint's tokenizer.
        found: String,
        /// Short hash of the given tokenizer.
        given: String,
    },
    /// The model in the checkpoint is not one that can be built.
    #[error("'{}' holds a model that cannot be built: {source}", path.display())]
    BadModel {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ConfigError,
    },
    /// It cannot be written.
    #[error("cannot write checkpoint '{}': {source}; the one before is whole", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl CheckpointError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::OtherModel { .. }
            | Self::OtherTokenizer { .. }
            | Self::NoBase { .. }
            | Self::OtherBase { .. } => true,
            Self::Interop(error) => error.is_usage(),
            _ => false,
        }
    }
}
