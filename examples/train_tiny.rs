//! Trains a tiny model on the built-in stories and looks at each step.
//!
//! `cargo run --example train_tiny [FOLDER]`: the run's files go to FOLDER, or to `runs/tiny`.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use gpu_tlm::Error;
use gpu_tlm::config::{Resolved, Settings};
use gpu_tlm::train::run::{Run, StartOptions};
use gpu_tlm::tuner;

fn main() -> Result<(), Error> {
    let folder = std::env::args()
        .nth(1)
        .map_or("runs/tiny".into(), PathBuf::from);
    // Every key of a config file is a field here.
    let settings = Settings {
        logdir: Some(folder),
        vocab_size: Some(280),
        context_length: 32,
        d_model: 32,
        num_layers: 2,
        num_heads: 2,
        d_ff: Some(64),
        batch_size: 4,
        max_iters: 40,
        warmup_iters: Some(5),
        learning_rate: 1e-2,
        eval_interval: 0,
        ..Settings::default()
    };
    let options = StartOptions {
        replace: true,
        // Kernels of the adapter's class, so that the first run on a machine does not stop to time some.
        tuning: tuner::Options {
            off: true,
            ..tuner::Options::default()
        },
        ..StartOptions::default()
    };
    let mut run = Run::prepare(Resolved::of(settings), options)?.start()?;
    let mut losses = Vec::new();
    run.go(&AtomicBool::new(false), &mut |step| {
        if step.iteration.is_multiple_of(10) {
            println!("iteration {:2}: loss {:.3}", step.iteration, step.loss);
        }
        losses.push(step.loss);
        // Whoever has seen enough breaks here; the run then leaves a checkpoint to go on from.
        ControlFlow::Continue(())
    })?;
    println!("{}", run.latest_checkpoint().display());
    assert!(losses[39] < 0.8 * losses[0], "the model learns: {losses:?}");
    Ok(())
}
