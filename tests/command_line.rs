//! The program as its users run it: a whole small run, stopping and going on, and every kind of
//! bad input.

mod adapters;
mod bad_input;
mod chatting;
mod converting;
mod generating;
mod instructions;
mod measure;
mod plans;
mod precision;
pub(crate) mod runs;
mod safety;
mod scores;
mod tuning;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// What a finished process left behind.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gpu-tlm"))
}

fn command(args: &[&str]) -> Command {
    let mut command = program();
    // What is fastest differs from run to run, and these compare bits; `tuning` looks at the tuner.
    let tunes =
        ["train", "eval", "score", "generate", "bench"].contains(args.first().unwrap_or(&""));
    command
        .args(args)
        .args(tunes.then_some("--no-tune"))
        .env_remove("GPU_TLM_LOG")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

fn gpu_tlm(args: &[&str]) -> Finished {
    finished(command(args).output().unwrap())
}

fn finished(output: Output) -> Finished {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs and wants success; gives stdout.
fn succeed(args: &[&str]) -> String {
    let run = gpu_tlm(args);
    assert_eq!(run.code, Some(0), "{args:?}\n{}", run.stderr);
    run.stdout
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A `.npy` file of uint16 tokens, written by hand as NumPy writes it.
fn write_npy(path: &Path, tokens: &[u16]) {
    let mut header = format!(
        "{{'descr': '<u2', 'fortran_order': False, 'shape': ({},), }}",
        tokens.len()
    );
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

/// A small run's folder: token files and a config.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        // A repeating pattern with a twist, so that a few steps already lower the loss.
        let tokens: Vec<u16> = (0..2000u16).map(|i| (i % 7) * 3 + i % 2).collect();
        write_npy(&project.path("train.npy"), &tokens);
        write_npy(&project.path("val.npy"), &tokens[..500]);
        project.write_config(json!({}));
        project
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `config.json`: a tiny model, with `changes` laid over it.
    fn write_config(&self, changes: Value) {
        let mut config = json!({
            "vocab_size": 24, "context_length": 16, "d_model": 32, "num_layers": 1, "num_heads": 2,
            "num_kv_heads": 1, "d_ff": 40, "batch_size": 4, "micro_batch_size": 2, "max_iters": 40,
            "learning_rate": 0.01, "warmup_iters": 5, "cosine_cycle_iters": 40,
            "eval_interval": 10, "eval_iters": 2, "checkpoint_interval": 0, "seed": 7,
            "train_path": self.path("train.npy"), "val_path": self.path("val.npy"),
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(self.path("config.json"), config.to_string()).unwrap();
    }

    /// Arguments of a training run into `logdir` below the project.
    fn train_args(&self, logdir: &str, more: &[&str]) -> Vec<String> {
        let mut args = vec![
            "train".to_owned(),
            "--config".to_owned(),
            utf8(&self.path("config.json")).to_owned(),
            "--logdir".to_owned(),
            utf8(&self.path(logdir)).to_owned(),
        ];
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        args
    }

    fn train(&self, logdir: &str, more: &[&str]) -> Finished {
        let args = self.train_args(logdir, more);
        gpu_tlm(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn checkpoint(&self, logdir: &str) -> String {
        utf8(&self.path(logdir).join("checkpoints/latest.safetensors")).to_owned()
    }

    /// The lines of a run's metrics, times aside.
    fn metrics(&self, logdir: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(logdir).join("metrics.jsonl")).unwrap();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        for line in &mut lines {
            for key in ["tokens_per_s", "elapsed_s"] {
                let time = line.as_object_mut().unwrap().shift_remove(key);
                // The first iteration has a speed like all others.
                let positive = time.is_none_or(|time| time.as_f64().unwrap() > 0.0);
                assert!(positive, "{key} of {line}");
            }
        }
        lines
    }
}
