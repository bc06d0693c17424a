//! `gpu-tlm train`: from token files, or from nothing, to a model.

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::Error;
use crate::config::{Resolved, SettingFlags};
use crate::train::run::{Run, StartOptions};
use crate::train::trainer::Ending;

/// Arguments of `gpu-tlm train`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    gpu-tlm train                                       on the built-in stories\n  \
    gpu-tlm train --config configs/quickstart.json --logdir runs/quickstart\n  \
    gpu-tlm train --train-path train.npy --val-path val.npy --tokenizer tokenizer --logdir runs/mine\n  \
    gpu-tlm train --config runs/mine/config.json \\\n      \
    --load-checkpoint runs/mine/checkpoints/latest.safetensors    go on")]
pub struct TrainArgs {
    /// JSON file with the settings below as keys; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// Keep bounds checks and loop guards in the shaders: slower, to find a fault
    #[arg(long)]
    checked: bool,
    /// Write a trace of one early step, with the device time of each dispatch, for
    /// chrome://tracing or ui.perfetto.dev, and print the ten dearest kernels
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Go on where token files, checkpoint and tokenizer do not belong together
    #[arg(long)]
    ignore_tokenizer_mismatch: bool,
    /// Replace the run that the logdir holds
    #[arg(long, conflicts_with = "load_checkpoint")]
    overwrite: bool,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) validation: super::ValidationArgs,
}

/// Trains; Ctrl-C finishes the iteration, writes a checkpoint and ends well, a second one ends at
/// once.
///
/// # Errors
/// When the settings are wrong, or the data, the device or the disk fails.
pub fn run(args: &TrainArgs) -> Result<(), Error> {
    let options = StartOptions {
        replace: args.overwrite,
        ignore_tokenizer_mismatch: args.ignore_tokenizer_mismatch,
        checked: args.checked,
        profile: args.profile.clone(),
        tuning: args.tuning.options()?,
    };
    let resolved = Resolved::load(args.config.as_deref(), &args.settings)?;
    // A backend that there is none of is refused before data is made.
    resolved.settings.adapter_request()?;
    let mut run = Run::prepare(resolved, options)?.start()?;
    let stop = super::stop_on_interrupt("stopping after this iteration; once more to stop at once");
    let ending = run.go(&stop, &mut |_| ControlFlow::Continue(()))?;
    let latest = run.latest_checkpoint();
    match ending {
        Ending::Done => tracing::info!("done; the model is {}", latest.display()),
        Ending::Interrupted => tracing::info!(
            "stopped after {} iterations; go on with --load-checkpoint {}",
            run.iterations(),
            latest.display()
        ),
    }
    Ok(())
}
