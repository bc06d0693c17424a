//! `gpu-tlm generate`: text as it comes, many prompts at once, and where texts end.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gpu_tlm::data::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Finished, command, finished, gpu_tlm, succeed, utf8};

/// The run did not do what was asked.
const FAILED: Option<i32> = Some(1);
/// What was asked cannot be.
const BAD_REQUEST: Option<i32> = Some(2);

/// A model of a few steps on the built-in stories, unsure enough to say something else for each seed.
pub(super) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generating");
        let settings = "--vocab-size 300 --context-length 32 --d-model 32 --num-layers 1 --num-heads 2 \
                        --batch-size 8 --max-iters 12 --learning-rate 0.01 --eval-interval 0 --overwrite";
        let mut args = vec!["train", "--logdir", utf8(&folder)];
        args.extend(settings.split_whitespace());
        succeed(&args);
        folder
    })
}

/// Arguments of a generation with the model's tokenizer, and 12 new tokens where nothing else is said.
fn generate(more: &[&str]) -> Vec<String> {
    let checkpoint = model().join("checkpoints/latest.safetensors");
    let tokenizer = model().join("tokenizer");
    let mut args = vec!["generate", "--checkpoint", utf8(&checkpoint)];
    args.extend(["--tokenizer", utf8(&tokenizer)]);
    if !more.contains(&"--max-new-tokens") {
        args.extend(["--max-new-tokens", "12"]);
    }
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

fn run(more: &[&str]) -> Finished {
    let args = generate(more);
    gpu_tlm(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn text(more: &[&str]) -> String {
    let run = run(more);
    assert_eq!(run.code, Some(0), "{more:?}\n{}", run.stderr);
    run.stdout
}

fn object(more: &[&str]) -> Value {
    serde_json::from_str(&text(&[more, &["--json"]].concat())).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn start(more: &[&str]) -> Child {
    let args = generate(more);
    let mut command = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What comes of prompts on standard input.
fn pipe(input: &str, more: &[&str]) -> Finished {
    let mut process = start(&[&["--prompts", "-"], more].concat());
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    finished(process.wait_with_output().unwrap())
}

/// What a sample says whatever its time.
fn without_times(sample: &Value) -> Value {
    let mut sample = sample.clone();
    for key in ["tokens_per_s", "time_to_first_token_s"] {
        let time = sample.as_object_mut().unwrap().shift_remove(key).unwrap();
        assert!(time.as_f64().unwrap() > 0.0, "{key} {time}");
    }
    sample
}

#[test]
fn text_on_a_pipe_is_the_text_in_json() {
    // Bytes of several tokens in the prompt, and a sampling that draws any byte.
    for more in [
        &["--prompt", "Once é😀"][..],
        &[
            "--prompt",
            "A",
            "--temperature",
            "3",
            "--max-new-tokens",
            "60",
        ],
        &["--seed", "3"],
    ] {
        let wanted = object(more);
        assert_eq!(
            text(more),
            format!("{}\n", wanted["text"].as_str().unwrap())
        );
        let whole = wanted["text"].as_str().unwrap();
        assert!(whole.ends_with(wanted["completion"].as_str().unwrap()));
        assert_eq!(wanted["finish_reason"], "length");
    }
    let more = ["--prompt", "The", "--num-samples", "3"];
    let wanted = object(&more);
    let samples = wanted["samples"].as_array().unwrap();
    let printed: String = (1..)
        .zip(samples)
        .map(|(number, sample)| format!("--- {number}\n{}\n", sample["text"].as_str().unwrap()))
        .collect();
    assert_eq!(text(&more), printed);
    assert!(wanted["total_tokens_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(wanted["tokens"], samples[0]["tokens"]);
    assert_ne!(samples[0]["tokens"], samples[1]["tokens"]);
    without_times(&samples[2]);
}

#[test]
fn without_a_tokenizer_there_are_tokens() {
    let checkpoint = model().join("checkpoints/latest.safetensors");
    let args = "--prompt-tokens 7,8 --max-new-tokens 5 --ignore-tokenizer-mismatch --checkpoint";
    let mut args: Vec<&str> = std::iter::once("generate")
        .chain(args.split_whitespace())
        .collect();
    args.push(utf8(&checkpoint));
    let printed = succeed(&args);
    args.push("--json");
    let wanted: Value = serde_json::from_str(&succeed(&args)).unwrap();
    assert_eq!(
        format!("[{}]", printed.trim_end()),
        wanted["tokens"].to_string()
    );
    assert_eq!(
        (&wanted["text"], &wanted["completion"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(wanted["prompt_tokens"], json!([7, 8]));
    args.extend(["--stop", "x"]);
    let refused = gpu_tlm(&args);
    assert_eq!(refused.code, BAD_REQUEST);
    assert!(refused.stderr.contains("tokenizer"), "{}", refused.stderr);
}

#[test]
fn without_a_prompt_a_text_begins_as_the_files_say() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        let from = model().join("tokenizer").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let begins = |with: &str| {
        let id = tokenizer.token_id(with).unwrap();
        let checkpoint = model().join("checkpoints/latest.safetensors");
        let args = ["generate", "--json", "--max-new-tokens", "1", "--eos-token"];
        let more = ["none", "--checkpoint", utf8(&checkpoint), "--tokenizer"];
        let json = succeed(&[&args[..], &more, &[utf8(folder.path())]].concat());
        let said: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(said["prompt_tokens"], json!([id]), "{said}");
    };
    begins("<|endoftext|>");
    let config = json!({ "bos_token": "a", "eos_token": "<|endoftext|>" });
    let path = folder.path().join("tokenizer_config.json");
    std::fs::write(path, config.to_string()).unwrap();
    begins("a");
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let greedy = [
        "--prompt",
        "Once",
        "--temperature",
        "0",
        "--max-new-tokens",
        "30",
    ];
    let free = object(&greedy);
    let free_text = free["completion"].as_str().unwrap();
    // Cut in the middle, at characters of a text of several tokens.
    let middle = free_text
        .char_indices()
        .nth(free_text.chars().count() / 2)
        .unwrap()
        .0;
    let stop: String = free_text[middle..].chars().take(3).collect();
    let end = free_text.find(&stop).unwrap();
    let stopped = object(&[&greedy[..], &["--stop", "no such", "--stop", &stop]].concat());
    assert_eq!(stopped["completion"].as_str().unwrap(), &free_text[..end]);
    assert_eq!(stopped["finish_reason"], "stop");
    let n_tokens = stopped["tokens"].as_array().unwrap().len();
    let all = free["tokens"].as_array().unwrap();
    assert!(n_tokens < all.len(), "{n_tokens}");
    assert_eq!(stopped["tokens"].as_array().unwrap()[..], all[..n_tokens]);
    let printed = text(&[&greedy[..], &["--stop", &stop]].concat());
    assert_eq!(printed, format!("Once{}\n", &free_text[..end]));
    let never = object(&[&greedy[..], &["--stop", "no such"]].concat());
    assert_eq!(
        (&never["text"], &never["finish_reason"]),
        (&free["text"], &json!("length"))
    );
}

#[test]
fn prompts_of_a_file_give_what_each_gives_alone_in_any_order_and_batch() {
    let long = "Once upon a time there was a small dog who liked to run in the park all day long";
    let prompts = [
        (json!({"prompt": "Once"}), vec!["--prompt", "Once"]),
        (
            json!({"id": [1, {"a": null}], "prompt": long, "seed": 5, "max_new_tokens": 20}),
            vec!["--prompt", long, "--seed", "5", "--max-new-tokens", "20"],
        ),
        (
            json!({"prompt_tokens": [70], "temperature": 0, "max_new_tokens": 3, "id": "two"}),
            vec![
                "--prompt-tokens",
                "70",
                "--temperature",
                "0",
                "--max-new-tokens",
                "3",
            ],
        ),
        (
            json!({"prompt": "The dog", "top_k": 4, "top_p": 0.9, "min_p": 0.01, "stop": "a"}),
            vec![
                "--prompt", "The dog", "--top-k", "4", "--top-p", "0.9", "--min-p", "0.01",
                "--stop", "a",
            ],
        ),
        (
            json!({"prompt": "é", "repetition_penalty": 3, "seed": 6, "stop": ["b", "c"]}),
            vec![
                "--prompt",
                "é",
                "--repetition-penalty",
                "3",
                "--seed",
                "6",
                "--stop",
                "b",
                "--stop",
                "c",
            ],
        ),
        (
            json!({"prompt": "Once", "max_new_tokens": 1}),
            vec!["--prompt", "Once", "--max-new-tokens", "1"],
        ),
    ];
    let mut wanted: Vec<(String, Value)> = Vec::new();
    for (prompt, flags) in &prompts {
        let alone = object(flags);
        let mut line = without_times(&alone["samples"][0]);
        line["prompt_tokens"] = alone["prompt_tokens"].clone();
        line["sample"] = json!(0);
        if let Some(id) = prompt.get("id") {
            line["id"] = id.clone();
        }
        wanted.push((prompt.to_string(), line));
    }
    for batch_size in ["1", "2", "3", "16"] {
        wanted.rotate_left(1);
        wanted.swap(0, 3);
        let input: String = wanted
            .iter()
            .map(|(line, _)| format!("{line}\n\n"))
            .collect();
        let found = pipe(&input, &["--batch-size", batch_size]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        let found: Vec<Value> = lines(&found.stdout).iter().map(without_times).collect();
        assert_eq!(found.len(), wanted.len());
        for (found, (line, wanted)) in found.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{line} at batch size {batch_size}");
        }
    }
}

#[test]
fn samples_of_prompts_come_a_line_each_from_a_compressed_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.jsonl.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    file.write_all(b"{\"prompt\": \"Once\"}\n{\"prompt\": \"The\", \"seed\": 2}\n")
        .unwrap();
    file.finish().unwrap();
    let more = [
        "--prompts",
        utf8(&path),
        "--num-samples",
        "2",
        "--batch-size",
        "3",
    ];
    let found = lines(&text(&more));
    let samples: Vec<&Value> = found.iter().map(|line| &line["sample"]).collect();
    assert_eq!(samples, [0, 1, 0, 1]);
    for (found, flags) in found.chunks(2).zip([
        &["--prompt", "Once"][..],
        &["--prompt", "The", "--seed", "2"],
    ]) {
        let wanted = object(&[flags, &["--num-samples", "2"]].concat());
        for (found, wanted) in found.iter().zip(wanted["samples"].as_array().unwrap()) {
            assert_eq!(found["tokens"], wanted["tokens"]);
        }
    }
    // No prompts, no lines.
    let none = pipe("\n", &[]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
}

#[test]
fn wrong_prompts_are_refused_by_their_line() {
    let good = "{\"prompt\": \"Once\"}\n";
    for (line, wanted) in [
        (
            "{\"promt\": \"a\"}",
            &["line 3", "unknown key 'promt'", "'prompt'"][..],
        ),
        ("{\"prompt\": \"a\"", &["line 3", "JSON", "column"]),
        (
            "{\"prompt\": \"a\", \"prompt_tokens\": [1]}",
            &["line 3", "both"],
        ),
        ("{\"prompt\": \"\"}", &["line 3", "no tokens"]),
        (
            "{\"prompt_tokens\": [300]}",
            &["line 3", "token 300", "vocabulary of 300"],
        ),
        (
            "{\"prompt\": \"a\", \"top_p\": 2}",
            &["line 3", "top-p is 2"],
        ),
        (
            "{\"prompt\": \"a\", \"seed\": -1}",
            &["line 3", "'seed'", "-1"],
        ),
    ] {
        let run = pipe(&format!("{good}\n{line}\n"), &[]);
        assert_eq!((run.code, run.stdout.as_str()), (BAD_REQUEST, ""), "{line}");
        for part in wanted.iter().chain(&["standard input"]) {
            assert!(run.stderr.contains(part), "{line}: {}", run.stderr);
        }
    }
    for (more, wanted) in [
        (
            &["--prompts", "-", "--prompt", "a"][..],
            "cannot be used with",
        ),
        (
            &["--prompts", "-", "--prompt-tokens", "1"],
            "cannot be used with",
        ),
        (
            &["--prompt", "a", "--logprobs", "21", "--json"],
            "21 is not in 0..=20",
        ),
        (&["--prompt", "a", "--logprobs", "2"], "--json"),
        (&["--prompt", "a", "--batch-size", "0"], "--batch-size"),
        (
            &["--prompt", "a", "--overflow", "wrap"],
            "exact, rolling, stop",
        ),
    ] {
        let run = run(more);
        assert_eq!(run.code, BAD_REQUEST, "{more:?}");
        assert!(run.stderr.contains(wanted), "{more:?}: {}", run.stderr);
    }
}

#[test]
fn a_full_context_ends_the_text_where_that_is_asked_for() {
    let more = |mode| {
        let mode = ["--overflow", mode];
        let long = [
            "--prompt",
            "Once",
            "--eos-token",
            "none",
            "--max-new-tokens",
            "50",
        ];
        object(&[&long[..], &mode].concat())
    };
    let count = |value: &Value| value["tokens"].as_array().unwrap().len();
    let stopped = more("stop");
    assert_eq!(stopped["finish_reason"], "context");
    let prompt_len = stopped["prompt_tokens"].as_array().unwrap().len();
    // The last token follows a context that is full, and nothing follows it.
    assert_eq!(prompt_len + count(&stopped), 32 + 1);
    for mode in ["exact", "rolling"] {
        let whole = more(mode);
        assert_eq!(
            (count(&whole), &whole["finish_reason"]),
            (50, &json!("length"))
        );
        let begun = &whole["tokens"].as_array().unwrap()[..count(&stopped)];
        assert_eq!(
            begun[..],
            stopped["tokens"].as_array().unwrap()[..],
            "{mode}"
        );
    }
}

#[test]
fn log_probabilities_stand_beside_each_token() {
    let found = object(&["--prompt", "Once", "--logprobs", "3"]);
    let tokens = found["tokens"].as_array().unwrap();
    let entries = found["logprobs"].as_array().unwrap();
    let named: Vec<&Value> = entries.iter().map(|entry| &entry["token"]).collect();
    assert_eq!(named, tokens.iter().collect::<Vec<_>>());
    assert!(object(&["--prompt", "Once"]).get("logprobs").is_none());
    let line = &lines(&pipe("{\"prompt\": \"Once\"}", &["--logprobs", "0"]).stdout)[0];
    assert_eq!(line["logprobs"].as_array().unwrap().len(), tokens.len());
}

/// Reads until there are `len` bytes, which a process that goes on for long has to have streamed.
fn read_some(process: &mut Child, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    process
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    assert!(process.try_wait().unwrap().is_none(), "it goes on");
    bytes
}

const LONG: [&str; 6] = [
    "--prompt",
    "Once",
    "--eos-token",
    "none",
    "--max-new-tokens",
    "50000",
];

fn wait(mut process: Child) -> (Option<i32>, String) {
    let started = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            process.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let finished = finished(process.wait_with_output().unwrap());
    (finished.code, finished.stderr)
}

#[test]
fn a_reader_that_goes_away_ends_the_generation() {
    let mut process = start(&LONG);
    assert!(read_some(&mut process, 40).starts_with(b"Once"));
    drop(process.stdout.take());
    let (code, stderr) = wait(process);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("ERROR"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_the_text_so_far() {
    let interrupt = |process: &Child| {
        let status = std::process::Command::new("kill")
            .args(["-INT", &process.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    };
    let mut process = start(&LONG);
    let begun = read_some(&mut process, 40);
    interrupt(&process);
    let rest = finished(process.wait_with_output().unwrap());
    assert_eq!(rest.code, FAILED);
    assert!(rest.stderr.contains("stopped"), "{}", rest.stderr);
    assert!(begun.starts_with(b"Once") && rest.stdout.ends_with('\n'));
    // The first prompt is done, the second was begun, the third waits for a slot.
    let input =
        "{\"prompt\": \"a\", \"max_new_tokens\": 2}\n{\"prompt\": \"b\"}\n{\"prompt\": \"c\"}\n";
    let more = ["--prompts", "-", "--batch-size", "1"];
    let mut process = start(&[&LONG[2..], &more].concat());
    process
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let first = read_some(&mut process, 1);
    std::thread::sleep(Duration::from_millis(200));
    interrupt(&process);
    let rest = finished(process.wait_with_output().unwrap());
    assert_eq!(rest.code, FAILED, "{}", rest.stderr);
    let text = String::from_utf8(first).unwrap() + &rest.stdout;
    let reasons: Vec<Value> = lines(&text)
        .iter()
        .map(|line| line["finish_reason"].clone())
        .collect();
    assert_eq!(reasons, ["length", "interrupted"]);
}
