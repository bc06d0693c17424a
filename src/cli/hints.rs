//! What the command line adds to an error of the library: the flags that mend it, since the library
//! does not know of any.

use crate::Error;
use crate::bench::BenchError;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::data::dataset::DatasetError;
use crate::data::input::InputError;
use crate::data::npy::NpyError;
use crate::data::tokenizer::TokenizerError;
use crate::decode::DecodeError;
use crate::gpu::GpuError;
use crate::interop::InteropError;
use crate::train::TrainError;

/// The error's message with the flags that mend it, as one line whatever an underlying library's message
/// looks like.
pub fn explain(error: &Error) -> String {
    let message = match hint(error) {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    };
    message.replace('\n', " ")
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Gpu(error) => of_device(error),
        Error::Check(_) => Some("--adapter NAME"),
        Error::Bench(BenchError::Gpu(error)) => of_device(error),
        Error::Bench(BenchError::NoBaseline { .. }) => {
            Some("`gpu-tlm bench kernels --json` writes one")
        }
        Error::Bench(BenchError::NoPage { .. }) => Some("`gpu-tlm bench all` writes one"),
        Error::Config(ConfigError::UnknownKey { nearest: None, .. }) => {
            Some("`gpu-tlm train --help` lists the keys")
        }
        Error::Dataset(DatasetError::NoTokenizer { .. } | DatasetError::NoEndOfDocument { .. }) => {
            Some("--tokenizer DIR")
        }
        Error::Input(error) => of_input(error),
        Error::Npy(error) | Error::Dataset(DatasetError::Npy(error)) => of_token_file(error),
        Error::Tokenizer(TokenizerError::SameOutput { .. }) => Some("--out, --val-out"),
        Error::Checkpoint(CheckpointError::OtherTokenizer { .. }) => {
            Some("--ignore-tokenizer-mismatch")
        }
        Error::Checkpoint(CheckpointError::NoRun { .. } | CheckpointError::NoMoments { .. }) => {
            Some("--init-from FILE")
        }
        Error::Checkpoint(CheckpointError::NoBase { .. } | CheckpointError::OtherBase { .. }) => {
            Some("--base PATH, or --init-from PATH to train adapters on")
        }
        Error::Interop(error) | Error::Checkpoint(CheckpointError::Interop(error)) => {
            of_interop(error)
        }
        Error::Train(error) => of_run(error),
        Error::Decode(error) => of_decoding(error),
        #[cfg(feature = "serve")]
        Error::Serve(error) => of_serving(error),
        _ => None,
    }
}

fn of_interop(error: &InteropError) -> Option<&'static str> {
    match error {
        InteropError::Incomplete { .. } => {
            Some("--num-heads, --context-length or --config FILE, of train and import")
        }
        _ => None,
    }
}

fn of_device(error: &GpuError) -> Option<&'static str> {
    match error {
        GpuError::NoAdapter { .. } => Some("--backend NAME"),
        GpuError::NoDevice { .. } | GpuError::MissingFeature { .. } => Some("--adapter NAME"),
        GpuError::Device(_) => Some("--checked"),
        GpuError::NoValidation { .. } => Some("--backend vulkan"),
        _ => None,
    }
}

fn of_input(error: &InputError) -> Option<&'static str> {
    match error {
        InputError::Utf8 { .. } => Some("--lossy"),
        InputError::Line { .. } | InputError::Parquet { .. } => Some("--field KEY, --lossy"),
        InputError::TooLong { .. } => Some("--max-document-bytes N"),
        _ => None,
    }
}

fn of_token_file(error: &NpyError) -> Option<&'static str> {
    match error {
        NpyError::OtherTokenizer { .. } => Some("--ignore-tokenizer-mismatch"),
        _ => None,
    }
}

fn of_run(error: &TrainError) -> Option<&'static str> {
    match error {
        TrainError::LogdirInUse { .. } | TrainError::Unwritable { .. } => Some("--logdir DIR"),
        TrainError::LogdirTaken { .. } => {
            Some("--load-checkpoint FILE, --logdir DIR, or --overwrite")
        }
        TrainError::AlreadyDone { .. } => Some("--max-iters N"),
        _ => None,
    }
}

#[cfg(feature = "serve")]
fn of_serving(error: &crate::serve::ServeError) -> Option<&'static str> {
    use crate::serve::ServeError;
    match error {
        ServeError::KeyNeeded { .. } => Some("--api-key-file FILE, or --host 127.0.0.1"),
        ServeError::Listen { .. } => Some("--host NAME, --port N"),
        ServeError::Zero { .. } => Some("--slots N"),
        _ => None,
    }
}

fn of_decoding(error: &DecodeError) -> Option<&'static str> {
    match error {
        DecodeError::EmptyPrompt => Some("--prompt or --prompt-tokens"),
        DecodeError::NoSuchToken(_) => Some("--eos-token none goes without"),
        DecodeError::NoTokenizer => Some("--tokenizer, or --prompt-tokens"),
        DecodeError::NoOwnTokenizer => Some("--tokenizer DIR"),
        DecodeError::CannotRoll => Some("--overflow exact or stop"),
        DecodeError::StopWithoutTokenizer => Some("--tokenizer"),
        DecodeError::PromptLine { .. } => Some("`gpu-tlm generate --help` lists the keys"),
        _ => None,
    }
}
