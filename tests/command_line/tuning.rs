//! The tuner as users meet it: a first run that times kernels, later ones that look up what it
//! found, and caches that are damaged, read-only or another driver's.

use std::path::Path;

use serde_json::Value;

use super::runs::{tensors, without_run};
use super::{Finished, Project, finished, gpu_tlm, program, utf8};

const TIMES: &str = "timing kernels";

/// Runs with the cache in `folder`.
fn tuned(folder: &Path, args: &[&str]) -> Finished {
    let mut command = program();
    command
        .args(args)
        .env_remove("GPU_TLM_LOG")
        .env("GPU_TLM_CACHE", folder)
        .env("XDG_RUNTIME_DIR", std::env::temp_dir());
    let run = finished(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{args:?}\n{}", run.stderr);
    run
}

impl Project {
    fn train_tuned(&self, cache: &Path, logdir: &str, more: &[&str]) -> Finished {
        let args = self.train_args(logdir, more);
        tuned(cache, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the last start of a run was planned with.
    fn choices(&self, logdir: &str) -> Value {
        let lines = self.metrics(logdir);
        let run = lines.iter().rfind(|line| line["kind"] == "run").unwrap();
        run["tuning"].clone()
    }
}

fn read(cache: &Path) -> Value {
    let text = std::fs::read_to_string(cache.join("tuning.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Changes every choice of the cache to `choice`.
fn answer_all(cache: &Path, choice: &str) {
    let mut contents = read(cache);
    for entry in contents["entries"].as_array_mut().unwrap() {
        for (_, tuned) in entry["findings"].as_object_mut().unwrap() {
            tuned["choice"] = choice.into();
        }
    }
    std::fs::write(cache.join("tuning.json"), contents.to_string()).unwrap();
}

#[test]
fn a_first_run_times_kernels_and_a_second_looks_them_up() {
    let project = Project::new();
    let cache = project.path("cache");
    let first = project.train_tuned(&cache, "first", &["--max-iters", "2", "-v"]);
    assert!(first.stderr.contains(TIMES), "{}", first.stderr);
    let choices = project.choices("first");
    for (class, choice) in choices.as_object().unwrap() {
        let line = format!("{class} -> {} (", choice.as_str().unwrap());
        assert!(first.stderr.contains(&line), "{line}\n{}", first.stderr);
    }
    let kinds = ["matmul nn", "matmul nt", "matmul tn"];
    let asked = |kind: &str| {
        choices
            .as_object()
            .unwrap()
            .keys()
            .any(|c| c.starts_with(kind))
    };
    assert!(kinds.into_iter().all(asked), "{choices}");
    let second = project.train_tuned(&cache, "second", &["--max-iters", "2"]);
    assert!(!second.stderr.contains(TIMES), "{}", second.stderr);
    assert_eq!(project.choices("second"), choices);
    let [first, second] = ["first", "second"].map(|name| tensors(&project.checkpoint(name)));
    assert!(first == second, "runs with the same choices differ");
    // Another driver's findings are none of ours, and stay beside them.
    let mut contents = read(&cache);
    contents["entries"][0]["measured_on"]["driver"] = "of yesterday".into();
    std::fs::write(cache.join("tuning.json"), contents.to_string()).unwrap();
    let third = project.train_tuned(&cache, "third", &["--max-iters", "2"]);
    assert!(third.stderr.contains(TIMES), "{}", third.stderr);
    assert_eq!(read(&cache)["entries"].as_array().unwrap().len(), 2);
}

#[test]
fn generating_and_evaluating_after_training_times_nothing() {
    let project = Project::new();
    let cache = project.path("cache");
    project.train_tuned(&cache, "run", &["--max-iters", "1", "--eval-interval", "0"]);
    let checkpoint = project.checkpoint("run");
    let generate = [
        "generate",
        "--checkpoint",
        &checkpoint,
        "--prompt-tokens",
        "1,2",
        "--max-new-tokens",
        "3",
        "-v",
    ];
    let validation = project.path("val.npy");
    let eval = [
        "eval",
        "--checkpoint",
        &checkpoint,
        "--data",
        utf8(&validation),
        "--batch-size",
        "1",
        "-v",
    ];
    let known = read(&cache);
    for command in [&generate[..], &eval[..]] {
        let run = tuned(&cache, command);
        assert!(!run.stderr.contains(TIMES), "{}", run.stderr);
        assert!(run.stderr.contains("(as for matmul nt "), "{}", run.stderr);
    }
    assert_eq!(read(&cache), known);
    // Where nobody trained, they time, once.
    let other = project.path("other");
    for command in [&generate[..], &eval[..]] {
        let first = tuned(&other, command);
        let second = tuned(&other, command);
        assert!(!second.stderr.contains(TIMES), "{}", second.stderr);
        assert_eq!(first.stdout, second.stdout);
    }
    let classes = read(&other)["entries"][0]["findings"].clone();
    assert!(!classes.as_object().unwrap().is_empty());
}

#[test]
fn a_run_that_goes_on_keeps_its_kernels() {
    let project = Project::new();
    let cache = project.path("cache");
    project.train_tuned(&cache, "tuned", &["--max-iters", "1"]);
    answer_all(&cache, "matmul.texture side 16 split 1");
    project.train_tuned(&cache, "whole", &[]);
    project.train_tuned(&cache, "parts", &["--max-iters", "20"]);
    let chosen = project.choices("parts");
    // By now the cache says otherwise.
    answer_all(&cache, "matmul.texture side 8192 split 32");
    let half = project.checkpoint("parts");
    project.train_tuned(&cache, "parts", &["--load-checkpoint", &half]);
    assert_eq!(project.choices("parts"), chosen);
    let [whole, parts] = ["whole", "parts"].map(|name| tensors(&project.checkpoint(name)));
    assert!(whole == parts, "the resumed run differs");
    assert_eq!(
        without_run(project.metrics("whole")),
        without_run(project.metrics("parts"))
    );
    // Neither does a run start to use choices that began without.
    let untuned = project.train("untuned", &["--max-iters", "20"]);
    assert_eq!(untuned.code, Some(0), "{}", untuned.stderr);
    let half = project.checkpoint("untuned");
    project.train_tuned(&cache, "untuned", &["--load-checkpoint", &half]);
    assert_eq!(project.choices("untuned"), serde_json::json!({}));
}

#[test]
fn without_tuning_nothing_is_timed_read_or_written() {
    let project = Project::new();
    let cache = project.path("cache");
    let run = project.train_tuned(&cache, "run", &["--max-iters", "1", "--no-tune"]);
    assert!(!run.stderr.contains(TIMES), "{}", run.stderr);
    assert!(!cache.exists());
    assert_eq!(project.choices("run"), serde_json::json!({}));
}

#[test]
fn a_damaged_cache_is_named_and_replaced() {
    let project = Project::new();
    let cache = project.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let file = cache.join("tuning.json");
    std::fs::write(&file, "{\"format\": 1, \"entries\": [{").unwrap();
    let run = project.train_tuned(&cache, "run", &["--max-iters", "1"]);
    let named = run.stderr.contains("damaged") && run.stderr.contains(utf8(&file));
    assert!(named, "{}", run.stderr);
    assert_eq!(read(&cache)["entries"].as_array().unwrap().len(), 1);
    let again = project.train_tuned(&cache, "again", &["--max-iters", "1"]);
    assert!(!again.stderr.contains("damaged"), "{}", again.stderr);
}

/// Below a file no folder can be made, whatever rights the tests run with.
#[test]
fn a_cache_that_cannot_be_written_costs_one_warning() {
    let project = Project::new();
    let cache = project.path("config.json").join("cache");
    let run = project.train_tuned(&cache, "run", &["--max-iters", "1"]);
    let warnings = run.stderr.matches("cannot write the tuning cache").count();
    assert_eq!(warnings, 1, "{}", run.stderr);
    assert!(!project.choices("run").as_object().unwrap().is_empty());
}

#[test]
fn a_forced_variant_is_taken_where_it_can_run_and_missed_loudly() {
    let project = Project::new();
    let cache = project.path("cache");
    let profile = project.path("trace.json");
    let args = ["--overwrite", "--max-iters", "5", "--variant"];
    let traced = |variant: &str| {
        let more = [&args[..], &[variant, "--profile", utf8(&profile)]].concat();
        let run = project.train_tuned(&cache, "run", &more);
        (run.stderr, std::fs::read_to_string(&profile).unwrap())
    };
    let (said, trace) = traced("matmul.tiled");
    assert!(trace.contains("/matmul.tiled") && !trace.contains("/matmul.texture"));
    assert!(!said.contains("goes without"), "{said}");
    let (said, trace) = traced("attention.portable");
    assert!(trace.contains("/attention_forward\"") && !trace.contains("attention_forward.texture"));
    assert!(!said.contains("goes without"), "{said}");
    let (said, trace) = traced("matmul.row");
    assert!(!trace.contains("/matmul.row"));
    for kind in ["matmul nn", "matmul nt", "matmul tn"] {
        let missed = format!("{kind} goes without matmul.row");
        assert_eq!(said.matches(&missed).count(), 1, "{said}");
    }
    assert!(!cache.exists());
    let unknown = gpu_tlm(&["check", "--variant", "matmul.fast"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    let named = unknown.stderr.contains("matmul.fast") && unknown.stderr.contains("matmul.tiled");
    assert!(named, "{}", unknown.stderr);
}
