//! The one error type of the library: what went wrong, and whether the request or the run is to blame.

use std::path::PathBuf;

use crate::bench::BenchError;
use crate::check::CheckFailed;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::data::chat::ChatError;
use crate::data::dataset::DatasetError;
use crate::data::input::InputError;
use crate::data::npy::NpyError;
use crate::data::tokenizer::TokenizerError;
use crate::decode::DecodeError;
use crate::gpu::GpuError;
use crate::interop::InteropError;
use crate::kernels::{UnknownKernel, UnknownVariant};
use crate::train::TrainError;

/// Anything that a command can fail with.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Error {
    /// Of the adapter or device.
    Gpu(#[from] GpuError),
    /// Of a config file or flag.
    Config(#[from] ConfigError),
    /// Of a tokenizer or its files.
    Tokenizer(#[from] TokenizerError),
    /// Of a chat or its template.
    Chat(#[from] ChatError),
    /// Of text that is read from files.
    Input(#[from] InputError),
    /// Of a token file.
    Npy(#[from] NpyError),
    /// Of a token file as training data.
    Dataset(#[from] DatasetError),
    /// Of a checkpoint.
    Checkpoint(#[from] CheckpointError),
    /// Of a model of another program.
    Interop(#[from] InteropError),
    /// Of a training run.
    Train(#[from] TrainError),
    /// Of decoding.
    Decode(#[from] DecodeError),
    /// Of the name of a kernel.
    Kernel(#[from] UnknownKernel),
    /// Of the name of a variant.
    Variant(#[from] UnknownVariant),
    /// Of a check against the reference.
    Check(#[from] CheckFailed),
    /// Of a benchmark.
    Bench(#[from] BenchError),
    /// Of the server.
    #[cfg(feature = "serve")]
    Serve(#[from] crate::serve::ServeError),
    /// Somebody stopped a command that writes its result at its end.
    #[error("stopped; nothing was written, and files that were there before are whole")]
    Interrupted,
    /// A file or folder that could not be read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Exit code of the process: 2 for a bad request, 1 for a run that failed.
    pub fn exit_code(&self) -> u8 {
        let usage = match self {
            Self::Gpu(error) => error.is_usage(),
            Self::Chat(error) => error.is_usage(),
            Self::Config(_) | Self::Kernel(_) | Self::Variant(_) => true,
            Self::Tokenizer(error) => error.is_usage(),
            Self::Npy(error) => error.is_usage(),
            Self::Input(error) => error.is_usage(),
            Self::Dataset(error) => error.is_usage(),
            Self::Check(_) => false,
            Self::Interrupted | Self::Io { .. } => false,
            Self::Checkpoint(error) => error.is_usage(),
            Self::Interop(error) => error.is_usage(),
            Self::Train(error) => error.is_usage(),
            Self::Decode(error) => error.is_usage(),
            Self::Bench(error) => error.is_usage(),
            #[cfg(feature = "serve")]
            Self::Serve(error) => error.is_usage(),
        };
        if usage { 2 } else { 1 }
    }
}

/// Turns an I/O error into one that names the path and what was tried.
pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
