//! Runs in mixed precision: what they write, that they go on with the same bits, and what a step that does
//! not fit f16 leaves behind.

use std::path::Path;

use gpu_tlm::checkpoint::{self, Checkpoint};
use gpu_tlm::kernels::loss_scale::LossScale;
use gpu_tlm::weights::ParameterTable;
use serde_json::Value;

use super::runs::{tensors, without_run};
use super::{Project, gpu_tlm, succeed, utf8};

/// A request that makes no sense.
const USAGE: Option<i32> = Some(2);
const MIXED: [&str; 2] = ["--precision", "mixed"];

fn trained(project: &Project, logdir: &str, more: &[&str]) {
    let run = project.train(logdir, &[&MIXED, more].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

fn of_kind(lines: &[Value], kind: &str) -> Vec<Value> {
    let wanted = |l: &&Value| l["kind"] == kind;
    lines.iter().filter(wanted).cloned().collect()
}

#[test]
fn a_mixed_run_goes_on_with_the_same_bits_and_evaluates_as_it_trained() {
    let project = Project::new();
    project.write_config(serde_json::json!({ "eval_iters": 0 }));
    trained(&project, "whole", &[]);
    trained(&project, "parts", &["--max-iters", "20"]);
    let half = project.checkpoint("parts");
    trained(&project, "parts", &["--load-checkpoint", &half]);
    let of = |logdir| tensors(&project.checkpoint(logdir));
    assert!(of("whole") == of("parts"));
    let (whole, parts) = (project.metrics("whole"), project.metrics("parts"));
    assert_eq!(whole[0]["config"]["precision"], "mixed");
    let steps = of_kind(&whole, "train");
    assert!(
        steps
            .iter()
            .all(|l| l["loss_scale"] == 65_536.0 && l["skipped_steps"] == 0)
    );
    assert_eq!(without_run(whole.clone()), without_run(parts));
    // It has learnt, and in another way than in f32, if only by little.
    assert_eq!(project.train("f32", &[]).code, Some(0));
    let plain = of_kind(&project.metrics("f32"), "train");
    assert!(plain[0].get("loss_scale").is_none());
    let last = |steps: &[Value]| steps.last().unwrap()["loss"].as_f64().unwrap();
    let (mixed_loss, f32_loss) = (last(&steps), last(&plain));
    assert!(mixed_loss < 0.6 * steps[0]["loss"].as_f64().unwrap());
    assert!(mixed_loss != f32_loss && (mixed_loss / f32_loss - 1.0).abs() < 0.05);
    // The checkpoint says what it computes with.
    let (checkpoint, data) = (project.checkpoint("whole"), project.path("val.npy"));
    let evaluated = succeed(&[
        "eval",
        "--checkpoint",
        &checkpoint,
        "--data",
        utf8(&data),
        "--json",
    ]);
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    let val_loss = of_kind(&whole, "eval").pop().unwrap()["val_loss"]
        .as_f64()
        .unwrap();
    assert!((evaluated["loss"].as_f64().unwrap() / val_loss - 1.0).abs() < 1e-6);
    let prompt = ["--prompt-tokens", "0,4,6", "--max-new-tokens", "4"];
    succeed(&[&["generate", "--checkpoint", &checkpoint][..], &prompt].concat());
    // A run does not change what it means on the way.
    let other = project.train("parts", &["--precision", "f32", "--load-checkpoint", &half]);
    assert_eq!(other.code, USAGE, "{}", other.stderr);
    assert!(other.stderr.contains("precision"), "{}", other.stderr);
}

/// `checkpoint` again, with another loss scale.
fn rescale(checkpoint: &str, scale: f32) {
    let path = Path::new(checkpoint);
    let opened = Checkpoint::open(path).unwrap();
    let table = ParameterTable::new(&opened.model().unwrap(), &[], 1 << 25);
    let mut state = opened.state(&table).unwrap();
    let before = state.loss_scale.unwrap();
    state.loss_scale = Some(LossScale { scale, ..before });
    let metadata = opened.metadata().unwrap().clone();
    drop(opened);
    checkpoint::save(path, &table, &state, &metadata).unwrap();
}

#[test]
fn a_step_that_does_not_fit_is_told_counted_and_without_effect() {
    let project = Project::new();
    trained(&project, "run", &["--max-iters", "2"]);
    let checkpoint = project.checkpoint("run");
    let before = tensors(&checkpoint);
    let scale = 2f32.powi(40);
    rescale(&checkpoint, scale);
    let go_on = ["--max-iters", "3", "--load-checkpoint", &checkpoint];
    let run = project.train("run", &[&MIXED[..], &go_on].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stderr.contains("iteration 2 was skipped"),
        "{}",
        run.stderr
    );
    assert!(tensors(&project.checkpoint("run")) == before);
    let step = of_kind(&project.metrics("run"), "train").pop().unwrap();
    assert_eq!(
        (&step["iteration"], &step["skipped_steps"]),
        (&2.into(), &1.into())
    );
    assert_eq!(step["loss_scale"], f64::from(scale / 2.0));
    assert!(step["grad_norm"].is_null() && step["loss"].as_f64().is_some());
}

#[test]
fn an_unknown_precision_is_a_usage_error_with_the_known_ones() {
    let run = gpu_tlm(&["train", "--precision", "f16"]);
    assert_eq!(run.code, USAGE);
    for known in ["f32", "mixed"] {
        assert!(run.stderr.contains(known), "{}", run.stderr);
    }
}
