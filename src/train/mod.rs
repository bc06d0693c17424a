//! Training: the schedule, the step on the device, what a run writes, and the loop.

pub mod builtin;
pub mod engine;
pub mod evaluate;
pub mod gradients;
pub mod logdir;
pub mod loss_plot;
pub mod metrics;
pub mod prefetch;
pub mod profile;
pub mod run;
pub mod schedule;
pub mod step_plan;
pub mod tensorboard;
pub mod trainer;

use std::path::PathBuf;

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss or gradient stopped being a number.
    #[error(
        "the {what} is {value} at iteration {iteration}; lower learning_rate, raise warmup_iters \
         or set grad_clip, and go on from the last checkpoint in '{}'",
        checkpoints.display()
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f32,
        /// When.
        iteration: u64,
        /// Where the checkpoints are.
        checkpoints: PathBuf,
    },
    /// The checkpoint is at or past the last iteration already.
    #[error(
        "the checkpoint has done {done} iterations already; raise max_iters over that to go on"
    )]
    AlreadyDone {
        /// Iterations of the checkpoint.
        done: u64,
    },
    /// Another process trains into the same folder.
    #[error(
        "another run is writing to '{}'; wait for it to end, or choose another folder",
        path.display()
    )]
    LogdirInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a run that nobody asked to replace.
    #[error(
        "'{}' holds a run already; go on from its checkpoint {}, choose another folder, or have the run \
         replaced",
        path.display(),
        latest.display()
    )]
    LogdirTaken {
        /// The folder.
        path: PathBuf,
        /// The checkpoint to go on from.
        latest: PathBuf,
    },
    /// A file of the run cannot be written.
    #[error("cannot write '{}': {source}; choose another folder or free some space", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl TrainError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::AlreadyDone { .. } | Self::LogdirInUse { .. } | Self::LogdirTaken { .. }
        )
    }
}
