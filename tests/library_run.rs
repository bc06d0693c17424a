//! A run by the library alone, as its examples show it: begun, ended from outside, and gone on with.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use gpu_tlm::config::{Resolved, Settings};
use gpu_tlm::train::metrics::TrainRecord;
use gpu_tlm::train::run::{Run, StartOptions, StartedRun};
use gpu_tlm::train::trainer::Ending;
use gpu_tlm::tuner;

use crate::command_line::runs;

const ITERATIONS: u64 = 8;

fn settings(logdir: &Path) -> Settings {
    Settings {
        logdir: Some(logdir.to_owned()),
        vocab_size: Some(280),
        context_length: 16,
        d_model: 16,
        num_layers: 1,
        num_heads: 2,
        d_ff: Some(32),
        batch_size: 2,
        max_iters: ITERATIONS,
        eval_interval: 0,
        ..Settings::default()
    }
}

fn prepare(settings: Settings) -> Result<Run, gpu_tlm::Error> {
    let options = StartOptions {
        tuning: tuner::Options {
            off: true,
            ..tuner::Options::default()
        },
        ..StartOptions::default()
    };
    Run::prepare(Resolved::of(settings), options)
}

fn go(run: &mut StartedRun, on_step: &mut dyn FnMut(&TrainRecord) -> ControlFlow<()>) -> Ending {
    run.go(&AtomicBool::new(false), on_step).unwrap()
}

fn tensors(run: &StartedRun) -> Vec<(String, Vec<u8>)> {
    runs::tensors(run.latest_checkpoint().to_str().unwrap())
}

#[test]
fn a_run_that_a_caller_ends_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = prepare(settings(&folder.path().join("whole"))).unwrap();
    let mut whole = whole.start().unwrap();
    let ending = go(&mut whole, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(ending, Ending::Done), "{ending:?}");

    let broken = folder.path().join("broken");
    let mut first = prepare(settings(&broken)).unwrap().start().unwrap();
    let ending = go(&mut first, &mut |step| {
        if step.iteration == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(ending, Ending::Interrupted), "{ending:?}");
    assert!((3..ITERATIONS).contains(&first.iterations()));
    let checkpoint = first.latest_checkpoint();
    drop(first);

    let rest = Settings {
        load_checkpoint: Some(checkpoint),
        ..settings(&broken)
    };
    let mut rest = prepare(rest).unwrap().start().unwrap();
    go(&mut rest, &mut |_| ControlFlow::Continue(()));
    assert_eq!(rest.iterations(), ITERATIONS);
    assert!(tensors(&rest) == tensors(&whole));
}

#[test]
fn a_folder_that_holds_a_run_is_an_error_that_knows_no_flag() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = prepare(settings(folder.path())).unwrap().start().unwrap();
    go(&mut run, &mut |_| ControlFlow::Break(()));
    drop(run);
    let message = prepare(settings(folder.path())).unwrap_err().to_string();
    assert!(message.contains("holds a run already"), "{message}");
    assert!(!message.contains("--"), "{message}");
}
