//! Whole runs: what they write, that they can be stopped and gone on with, and that they talk.

use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use super::{Project, command, finished, gpu_tlm, succeed, utf8};

fn losses(lines: &[Value]) -> Vec<f64> {
    let train = lines.iter().filter(|l| l["kind"] == "train");
    train.map(|l| l["loss"].as_f64().unwrap()).collect()
}

pub(super) fn without_run(lines: Vec<Value>) -> Vec<Value> {
    lines.into_iter().filter(|l| l["kind"] != "run").collect()
}

/// Names and bytes of all tensors: parameters and both moments.
pub(crate) fn tensors(path: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(n, t)| (n, t.data().to_vec()))
        .collect();
    all.sort();
    all
}

#[test]
fn resume_equals_uninterrupted() {
    let project = Project::new();
    assert_eq!(project.train("whole", &[]).code, Some(0));
    assert_eq!(project.train("parts", &["--max-iters", "20"]).code, Some(0));
    let half = project.checkpoint("parts");
    let resumed = project.train("parts", &["--load-checkpoint", &half]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    let (whole, parts) = (
        tensors(&project.checkpoint("whole")),
        tensors(&project.checkpoint("parts")),
    );
    assert_eq!(whole.len(), 3 * 12, "parameters and two moments");
    for (whole, parts) in whole.iter().zip(&parts) {
        assert_eq!(whole.0, parts.0);
        assert!(whole.1 == parts.1, "{} differs", whole.0);
    }
    let (whole, parts) = (project.metrics("whole"), project.metrics("parts"));
    assert_eq!(parts.iter().filter(|l| l["kind"] == "run").count(), 2);
    assert_eq!(without_run(whole), without_run(parts));
}

#[test]
fn a_run_learns_and_writes_its_files() {
    let project = Project::new();
    assert_eq!(project.train("run", &[]).code, Some(0));
    let lines = project.metrics("run");
    assert_eq!(lines[0]["kind"], "run");
    assert_eq!(lines[0]["config"]["d_model"], 32);
    let losses = losses(&lines);
    assert_eq!(losses.len(), 40);
    assert!(losses[39] < 0.6 * losses[0], "{losses:?}");
    let last = lines.iter().rfind(|l| l["kind"] == "train").unwrap();
    assert_eq!(
        (last["iteration"].as_u64(), last["tokens"].as_u64()),
        (Some(39), Some(40 * 4 * 16))
    );
    let evals: Vec<_> = lines.iter().filter(|l| l["kind"] == "eval").collect();
    assert_eq!(
        evals
            .iter()
            .map(|l| l["iteration"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [10, 20, 30, 40]
    );
    let loss = evals[3]["val_loss"].as_f64().unwrap();
    assert!((evals[3]["val_perplexity"].as_f64().unwrap() / loss.exp() - 1.0).abs() < 1e-12);
    for file in [
        "config.json",
        "loss.svg",
        "checkpoints/best.safetensors",
        "checkpoints/iter-00000040.safetensors",
    ] {
        assert!(project.path("run").join(file).is_file(), "{file}");
    }
    let config = std::fs::read_to_string(project.path("run/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["sources"]["logdir"], "flag");
    assert_eq!(config["sources"]["beta1"], "default");
    assert!(
        config["sources"]["seed"]
            .as_str()
            .unwrap()
            .starts_with("file ")
    );
    // The written config repeats the run.
    let again = utf8(&project.path("run/config.json")).to_owned();
    succeed(&[
        "train",
        "--config",
        &again,
        "--logdir",
        utf8(&project.path("again")),
    ]);
    assert_eq!(
        tensors(&project.checkpoint("run")),
        tensors(&project.checkpoint("again"))
    );
}

/// What `eval --json` says of a run's last checkpoint and the validation tokens.
fn evaluation(project: &Project, more: &[&str]) -> Value {
    let (checkpoint, data) = (project.checkpoint("run"), project.path("val.npy"));
    let data = utf8(&data);
    let args = [
        "eval",
        "--checkpoint",
        &checkpoint,
        "--data",
        data,
        "--json",
    ];
    serde_json::from_str(&succeed(&[&args, more].concat())).unwrap()
}

#[test]
fn eval_reads_all_windows_and_agrees_with_training() {
    let project = Project::new();
    project.write_config(serde_json::json!({ "eval_iters": 0 }));
    assert_eq!(project.train("run", &[]).code, Some(0));
    let result = evaluation(&project, &["--batch-size", "3"]);
    // 499 targets make 31 windows of 16; three at a time leave one alone.
    assert_eq!(
        (result["windows"].as_u64(), result["tokens"].as_u64()),
        (Some(31), Some(496))
    );
    let lines = project.metrics("run");
    let last = lines.iter().rfind(|l| l["kind"] == "eval").unwrap()["val_loss"]
        .as_f64()
        .unwrap();
    assert!(
        (result["loss"].as_f64().unwrap() / last - 1.0).abs() < 1e-6,
        "{result} and {last}"
    );
}

#[test]
fn generate_is_a_function_of_its_seed_and_windows_long_texts() {
    let project = Project::new();
    // Few enough steps that the model is still unsure.
    assert_eq!(project.train("run", &["--max-iters", "8"]).code, Some(0));
    let checkpoint = project.checkpoint("run");
    let generate = |more: &[&str]| -> Value {
        let mut args = vec![
            "generate",
            "--checkpoint",
            &checkpoint,
            "--json",
            "--max-new-tokens",
            "25",
        ];
        args.extend(more);
        serde_json::from_str(&succeed(&args)).unwrap()
    };
    let tokens = |value: &Value| value["tokens"].clone();
    // Longer than the context of 16 already, and longer by 25 at the end.
    let prompt = "0,4,6,10,12,16,18,1,3,7,9,13,15,19,0,4,6,10,12,16";
    let first = generate(&[
        "--prompt-tokens",
        prompt,
        "--num-samples",
        "2",
        "--seed",
        "4",
    ]);
    assert_eq!(tokens(&first).as_array().unwrap().len(), 25);
    assert_eq!(
        tokens(&first),
        tokens(&generate(&["--prompt-tokens", prompt, "--seed", "4"]))
    );
    assert_ne!(tokens(&first), tokens(&first["samples"][1]));
    assert_ne!(
        tokens(&first),
        tokens(&generate(&["--prompt-tokens", prompt, "--seed", "5"]))
    );
    let greedy = generate(&["--prompt-tokens", prompt, "--temperature", "0"]);
    let narrow = generate(&["--prompt-tokens", prompt, "--top-k", "1"]);
    assert_eq!(tokens(&greedy), tokens(&narrow));
    // Whatever is less probable than the likeliest is left out.
    let likeliest = generate(&["--prompt-tokens", prompt, "--min-p", "1"]);
    assert_eq!(tokens(&greedy), tokens(&likeliest));
    let penalised = ["--temperature", "0", "--repetition-penalty", "4"];
    let penalised = generate(&[&["--prompt-tokens", prompt][..], &penalised].concat());
    assert_ne!(tokens(&greedy), tokens(&penalised));
    // The first 4 tokens lie outside of the window and change nothing.
    let other = prompt.replacen("0,4,6,10", "5,5,5,5", 1);
    assert_eq!(
        tokens(&greedy),
        tokens(&generate(&[
            "--prompt-tokens",
            &other,
            "--temperature",
            "0"
        ]))
    );
    let end = tokens(&greedy)[3].to_string();
    let stopped = generate(&[
        "--prompt-tokens",
        prompt,
        "--temperature",
        "0",
        "--eos-token",
        &end,
    ]);
    let stopped = tokens(&stopped);
    let length = stopped.as_array().unwrap().len();
    assert!(length <= 3, "{stopped}");
    assert_eq!(
        stopped.as_array().unwrap()[..],
        tokens(&greedy).as_array().unwrap()[..length]
    );
}

#[test]
fn initial_weights_can_come_from_a_file() {
    let project = Project::new();
    assert_eq!(project.train("first", &["--max-iters", "3"]).code, Some(0));
    let weights = project.checkpoint("first");
    let args = [
        "--init-from",
        &weights,
        "--max-iters",
        "1",
        "--learning-rate",
        "1e-30",
        "--min-learning-rate",
        "0",
        "--weight-decay",
        "0",
    ];
    assert_eq!(project.train("second", &args).code, Some(0));
    let parameters = |logdir: &str| -> Vec<_> {
        let all = tensors(&project.checkpoint(logdir));
        all.into_iter()
            .filter(|(name, _)| !name.starts_with("optimizer."))
            .collect()
    };
    assert_eq!(parameters("first"), parameters("second"));
    let first = project.metrics("second")[1].clone();
    assert_eq!(
        (first["kind"].as_str(), first["iteration"].as_u64()),
        (Some("train"), Some(0))
    );
}

#[test]
fn old_checkpoints_are_removed_and_the_newest_kept() {
    let project = Project::new();
    let args = ["--checkpoint-interval", "10", "--keep-checkpoints", "2"];
    assert_eq!(project.train("run", &args).code, Some(0));
    let mut names: Vec<String> = std::fs::read_dir(project.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "best.safetensors",
            "iter-00000030.safetensors",
            "iter-00000040.safetensors",
            "latest.safetensors"
        ]
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_finishes_the_iteration_and_can_be_gone_on_from() {
    let project = Project::new();
    project.write_config(serde_json::json!({ "max_iters": 100_000, "eval_interval": 0 }));
    let args = project.train_args("run", &[]);
    let mut process = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    process
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut process = process.spawn().unwrap();
    let metrics = project.path("run").join("metrics.jsonl");
    let started = Instant::now();
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 4 {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no iteration was logged"
        );
        assert!(process.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = ["-INT", &process.id().to_string()];
    assert!(
        std::process::Command::new("kill")
            .args(interrupt)
            .status()
            .unwrap()
            .success()
    );
    let run = finished(process.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let done = project
        .metrics("run")
        .iter()
        .filter(|l| l["kind"] == "train")
        .count();
    assert!(
        run.stderr
            .contains(&format!("stopped after {done} iterations")),
        "{}",
        run.stderr
    );
    let more = (done + 2).to_string();
    let checkpoint = project.checkpoint("run");
    let resumed = project.train(
        "run",
        &["--load-checkpoint", &checkpoint, "--max-iters", &more],
    );
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_eq!(losses(&project.metrics("run")).len(), done + 2);
}

#[test]
fn an_evaluation_says_what_it_has_planned_and_allocated() {
    let project = Project::new();
    assert_eq!(project.train("run", &["--max-iters", "1"]).code, Some(0));
    let eval = evaluation(&project, &[]);
    let planned = eval["planned_device_bytes"].as_u64().unwrap();
    assert!(planned > 0, "{eval}");
    // Where the backend says it: what is planned, and buffers for copies to and from the host.
    if let Some(allocated) = eval["allocated_device_bytes"].as_u64() {
        assert!(
            (planned..planned + (1 << 20)).contains(&allocated),
            "{eval}"
        );
    }
}

#[test]
fn verbose_names_kernels_and_dispatches() {
    let project = Project::new();
    let train = |flag: &str| {
        project
            .train("run", &[flag, "--overwrite", "--max-iters", "1"])
            .stderr
    };
    let (plain, verbose, more) = (train("--num-heads=2"), train("-v"), train("-vv"));
    assert!(!plain.contains("compiling attention_forward"), "{plain}");
    assert!(verbose.contains("compiling attention_forward") && !verbose.contains("TRACE"));
    assert!(more.contains("TRACE") && more.contains("adamw_update"));
}

#[test]
fn a_run_without_data_makes_stories_and_never_passes_their_entropy() {
    let project = Project::new();
    let logdir = project.path("stories");
    let run = gpu_tlm(&[
        "train",
        "--logdir",
        utf8(&logdir),
        "--vocab-size",
        "300",
        "--context-length",
        "32",
        "--d-model",
        "32",
        "--num-layers",
        "1",
        "--num-heads",
        "2",
        "--batch-size",
        "8",
        "--max-iters",
        "30",
        "--learning-rate",
        "0.01",
        "--eval-interval",
        "15",
        "--eval-iters",
        "3",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("entropy floor"), "{}", run.stderr);
    let lines = project.metrics("stories");
    let floor = lines[0]["entropy_floor"].as_f64().unwrap();
    let evals: Vec<f64> = lines
        .iter()
        .filter(|l| l["kind"] == "eval")
        .map(|l| l["val_loss"].as_f64().unwrap())
        .collect();
    assert!(
        floor > 0.0 && evals[1] < evals[0] && evals.iter().all(|&loss| loss > floor),
        "{floor} {evals:?}"
    );
    let checkpoint = project.checkpoint("stories");
    let text = succeed(&[
        "generate",
        "--checkpoint",
        &checkpoint,
        "--tokenizer",
        utf8(&logdir.join("tokenizer")),
        "--prompt",
        "Once",
        "--max-new-tokens",
        "5",
        "--top-p",
        "0.9",
    ]);
    assert!(text.starts_with("Once"), "{text}");
}
