//! `gpu-tlm serve` as its clients meet it.

mod access;
mod answers;
mod attention;
mod client;
mod ending;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use client::{Response, send};

const CONTEXT_LENGTH: usize = 64;

/// A tiny model that was trained on the built-in stories for a moment, for all of these tests.
static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("serve-run");
    // Greedy texts of a model that knows nothing are one token again and again.
    let words = "train --overwrite --no-tune --max-iters 40 --vocab-size 300 --context-length 64 \
                 --d-model 32 --num-layers 1 --num-heads 2 --d-ff 64 --batch-size 4 --eval-interval 0 \
                 --learning-rate 0.01 --warmup-iters 2 --logdir";
    let trained = program()
        .args(words.split_whitespace())
        .arg(&folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&trained.stderr);
    assert!(trained.status.success(), "{stderr}");
    folder
});

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-tlm"));
    command
        .env_remove("GPU_TLM_LOG")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

fn serve(more: &[&str]) -> Command {
    let mut command = program();
    command
        .args(["serve", "--no-tune", "--tokenizer"])
        .arg(RUN.join("tokenizer"))
        .args(more);
    if !more.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    if !more.contains(&"--checkpoint") {
        let checkpoint = RUN.join("checkpoints/latest.safetensors");
        command.arg("--checkpoint").arg(checkpoint);
    }
    command
}

/// A server that runs until it is dropped.
struct Server {
    process: Child,
    address: String,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let mut process = serve(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim().strip_prefix("http://") else {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            panic!("no address in '{line}': {said}");
        };
        Self {
            process,
            address: address.to_owned(),
            stderr,
        }
    }

    fn get(&self, path: &str) -> Response {
        send(&self.address, "GET", path, &[], "")
    }

    fn post(&self, body: &Value) -> Response {
        self.post_to("/v1/completions", body)
    }

    fn post_to(&self, path: &str, body: &Value) -> Response {
        let kind = [("Content-Type", "application/json")];
        send(&self.address, "POST", path, &kind, &body.to_string())
    }

    /// The answer to a request that is taken.
    fn complete(&self, body: &Value) -> Value {
        let response = self.post(body);
        assert_eq!(response.status, 200, "{body}: {}", response.body);
        response.json()
    }

    /// The text of the only choice.
    fn text(&self, body: &Value) -> String {
        let answer = self.complete(body);
        assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Waits until nothing runs and nothing waits.
    fn wait_until_idle(&self) {
        let started = Instant::now();
        loop {
            let info = self.get("/api/info").json();
            if info["active"] == 0 && info["waiting"] == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{info}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A request that keeps one slot busy for a long time.
fn long() -> Value {
    json!({ "prompt": "Once", "max_tokens": 50, "n": 100, "seed": 1, "stream": true })
}

/// The connection of a completions request.
fn open_stream(server: &Server, body: &Value) -> client::Open {
    let kind = [("Content-Type", "application/json")];
    let path = "/v1/completions";
    client::open(&server.address, "POST", path, &kind, &body.to_string())
}
