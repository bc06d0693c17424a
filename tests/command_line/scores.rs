//! `gpu-tlm score`: its log-probabilities against `eval` and against logits, documents, and what it prints.

use std::path::Path;

use gpu_tlm::data::tokenizer::Tokenizer;
use gpu_tlm::data::tokenizer::train::{TrainOptions, train};
use gpu_tlm::decode::{Generator, InferenceModel};
use gpu_tlm::gpu::{Device, DeviceOptions};
use serde_json::Value;

use super::{Project, gpu_tlm, succeed, utf8, write_npy};

const CONTEXT: usize = 32;
const END: &str = "<|endoftext|>";

const LONG: &str = "Once upon a time there was a little dog who liked to play in the park. One day the dog \
    found a red ball under a tree, and he was very happy. \"Look, Mom!\" he said. \"I found a ball!\" His mom \
    smiled, and they played with the ball until the sun went down.";

/// A model of a context of 32 tokens that was trained on stories for some iterations.
struct Trained {
    project: Project,
    checkpoint: String,
    tokenizer: std::path::PathBuf,
}

impl Trained {
    fn new() -> Self {
        let project = Project::new();
        let sizes =
            "--vocab-size 300 --context-length 32 --d-model 32 --num-layers 1 --num-heads 2";
        let run = "--batch-size 8 --max-iters 20 --learning-rate 0.01 --eval-interval 0";
        let logdir = project.path("stories");
        let flags = [sizes, run].map(|flags| flags.split(' ')).into_iter();
        let args: Vec<&str> = ["train", "--logdir", utf8(&logdir)]
            .into_iter()
            .chain(flags.flatten())
            .collect();
        succeed(&args);
        Self {
            checkpoint: project.checkpoint("stories"),
            tokenizer: logdir.join("tokenizer"),
            project,
        }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.project.path(name);
        std::fs::write(&path, text).unwrap();
        utf8(&path).to_owned()
    }

    fn args<'a>(&'a self, files: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let tokenizer = utf8(&self.tokenizer);
        let args = [
            "score",
            "--checkpoint",
            &self.checkpoint,
            "--tokenizer",
            tokenizer,
            "--text",
        ];
        [&args[..], files, more].concat()
    }

    fn json(&self, files: &[&str], more: &[&str]) -> Value {
        let printed = succeed(&self.args(files, &[more, &["--json"]].concat()));
        serde_json::from_str(&printed).unwrap()
    }
}

fn tokens(document: &Value) -> Vec<u32> {
    serde_json::from_value(document["tokens"].clone()).unwrap()
}

/// The log-probabilities of a document whose tokens all have one.
fn logprobs(document: &Value) -> Vec<f64> {
    serde_json::from_value(document["token_logprobs"].clone()).unwrap()
}

#[track_caller]
fn assert_near(got: f64, want: f64, tolerance: f64) {
    let error = (got - want).abs();
    assert!(
        error <= tolerance * want.abs().max(1.0),
        "{got}, not {want}"
    );
}

#[test]
fn scores_equal_evals_loss_where_windows_agree() {
    let trained = Trained::new();
    let text = trained.write("text.txt", &format!("{LONG} Good.{END}"));
    let scored = trained.json(&[&text], &["--stride", "32"]);
    let document = &scored["documents"][0];
    let (tokens, logprobs) = (tokens(document), logprobs(document));
    assert!(
        tokens.len() > 3 * CONTEXT && tokens.len() % CONTEXT > 0,
        "{}",
        tokens.len()
    );
    // Each document begins behind an end-of-text token, with which this one also ends.
    let end = *tokens.last().unwrap();
    let whole = tokens.len() / CONTEXT * CONTEXT;
    let file: Vec<u16> = std::iter::once(end)
        .chain(tokens[..whole].iter().copied())
        .map(|id| u16::try_from(id).unwrap())
        .collect();
    let data = trained.project.path("data.npy");
    write_npy(&data, &file);
    let eval = [
        "eval",
        "--checkpoint",
        &trained.checkpoint,
        "--data",
        utf8(&data),
        "--json",
    ];
    let eval: Value = serde_json::from_str(&succeed(&eval)).unwrap();
    assert_eq!(eval["tokens"].as_u64(), Some(whole as u64));
    let mean = -logprobs[..whole].iter().sum::<f64>() / whole as f64;
    assert_near(mean, eval["loss"].as_f64().unwrap(), 1e-6);
}

/// The log-probability of `token` behind `window`, from the logits that sampling sees.
fn from_logits(generator: &mut Generator, window: &[u32], token: u32) -> f64 {
    let logits: Vec<f64> = generator
        .logits(window)
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect();
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits[token as usize] - sum.ln()
}

#[test]
fn a_token_sees_what_window_and_stride_say() {
    let trained = Trained::new();
    let text = trained.write("text.txt", LONG);
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let words = device.target().max_binding_words;
    let model = InferenceModel::open(Path::new(&trained.checkpoint), words).unwrap();
    let mut generator = Generator::new(device, model, 1).unwrap();
    let tokenizer = Tokenizer::load(&trained.tokenizer).unwrap();
    let end = tokenizer.token_id(END).unwrap();
    for (window, stride) in [(32, 1), (32, 5), (32, 16), (32, 32), (30, 30), (7, 2)] {
        let (length, step) = (window.to_string(), stride.to_string());
        let scored = trained.json(&[&text], &["--window", &length, "--stride", &step]);
        let document = &scored["documents"][0];
        let tokens = tokens(document);
        assert_eq!(tokens, tokenizer.encode(LONG));
        let sequence = [&[end], &tokens[..]].concat();
        for (i, got) in logprobs(document).into_iter().enumerate() {
            // The last token that is scored together with token i.
            let last = match i.checked_sub(window) {
                None => window,
                Some(behind) => window + (behind / stride + 1) * stride,
            };
            let first = last.min(tokens.len()).saturating_sub(window);
            let seen = &sequence[first..=i];
            let want = from_logits(&mut generator, seen, tokens[i]);
            assert_near(got, want, 1e-4);
        }
    }
    // The whole context, and half of the window, are what nobody has to ask for.
    assert_eq!(
        trained.json(&[&text], &[]),
        trained.json(&[&text], &["--window", "32", "--stride", "16"])
    );
    assert_eq!(
        trained.json(&[&text], &["--window", "10"]),
        trained.json(&[&text], &["--window", "10", "--stride", "5"])
    );
}

#[test]
fn documents_are_scored_apart_and_add_up() {
    let trained = Trained::new();
    let plain = trained.write(
        "plain.txt",
        &format!("The cat sat.{END}{END}{LONG}{END}The end"),
    );
    let lines = trained.write(
        "lines.jsonl",
        "{\"text\": \"The cat sat.\"}\n{\"text\": \"\"}\n{\"text\": \"é\"}\n",
    );
    let scored = trained.json(&[&plain, &lines], &["--batch-size", "3"]);
    let documents = scored["documents"].as_array().unwrap();
    let names: Vec<(&str, u64, u64)> = documents
        .iter()
        .map(|d| {
            let number = |key: &str| d[key].as_u64().unwrap();
            (
                d["file"].as_str().unwrap(),
                number("document"),
                number("n_bytes"),
            )
        })
        .collect();
    let long = LONG.len() as u64;
    assert_eq!(
        names,
        [
            (&*plain, 0, 12),
            (&*plain, 2, long),
            (&*plain, 3, 7),
            (&*lines, 0, 12),
            (&*lines, 2, 2)
        ]
    );
    let (mut logprob, mut n_tokens, mut n_bytes) = (0.0, 0, 0);
    for document in documents {
        let of_tokens = logprobs(document);
        assert_eq!(document["n_tokens"].as_u64(), Some(of_tokens.len() as u64));
        assert!(of_tokens.iter().all(|&l| l < 0.0 && l.is_finite()));
        let sum: f64 = of_tokens.iter().sum();
        let count = of_tokens.len() as f64;
        assert_near(document["logprob"].as_f64().unwrap(), sum, 1e-6);
        assert_near(
            document["perplexity"].as_f64().unwrap(),
            (-sum / count).exp(),
            1e-6,
        );
        let bytes = document["n_bytes"].as_u64().unwrap();
        let bits = -sum / std::f64::consts::LN_2 / bytes as f64;
        assert_near(document["bits_per_byte"].as_f64().unwrap(), bits, 1e-6);
        (logprob, n_tokens, n_bytes) = (logprob + sum, n_tokens + of_tokens.len(), n_bytes + bytes);
    }
    assert_near(scored["logprob"].as_f64().unwrap(), logprob, 1e-6);
    assert_near(
        scored["perplexity"].as_f64().unwrap(),
        (-logprob / n_tokens as f64).exp(),
        1e-6,
    );
    assert_eq!(scored["n_tokens"].as_u64(), Some(n_tokens as u64));
    assert_eq!(scored["n_bytes"].as_u64(), Some(n_bytes));
    // The one with an end-of-text token behind it has that too, and else the same bits.
    let (first, again) = (logprobs(&documents[0]), logprobs(&documents[3]));
    assert_eq!(
        (first.len(), &first[..again.len()]),
        (again.len() + 1, &again[..])
    );
    // Alone in its pass.
    let alone = trained.json(&[&lines], &["--batch-size", "3"]);
    assert_eq!(alone["documents"].as_array().unwrap()[..], documents[3..]);
    for (one, of_three) in trained.json(&[&plain], &["--batch-size", "1"])["documents"]
        .as_array()
        .unwrap()
        .iter()
        .zip(documents)
    {
        for (one, of_three) in logprobs(one).into_iter().zip(logprobs(of_three)) {
            assert_near(one, of_three, 1e-5);
        }
    }
}

#[test]
fn the_likeliest_tokens_stand_beside_each_token() {
    let trained = Trained::new();
    let text = trained.write("text.txt", LONG);
    let scored = trained.json(&[&text], &["--top", "20"]);
    let document = &scored["documents"][0];
    let top: Vec<Vec<(u32, f64)>> = serde_json::from_value(document["top"].clone()).unwrap();
    let (tokens, logprobs) = (tokens(document), logprobs(document));
    assert_eq!(top.len(), tokens.len());
    let mut found = 0;
    for ((token, logprob), top) in tokens.into_iter().zip(logprobs).zip(top) {
        assert_eq!(top.len(), 20);
        assert!(
            top.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)),
            "{top:?}"
        );
        match top.iter().find(|(id, _)| *id == token) {
            Some((_, of_top)) => {
                assert_eq!(*of_top, logprob);
                found += 1;
            }
            None => assert!(logprob <= top[19].1),
        }
    }
    assert!(found > 20, "{found}");
    assert!(
        trained.json(&[&text], &[])["documents"][0]
            .get("top")
            .is_none()
    );
}

#[test]
fn a_table_has_a_line_a_file_and_more_if_asked() {
    let trained = Trained::new();
    let first = trained.write("first.txt", &format!("The cat sat.{END}").repeat(40));
    let second = trained.write("second.txt", "The dog ran.");
    let one = succeed(&trained.args(&[&first], &[]));
    assert_eq!(one.lines().count(), 2, "{one}");
    let table = succeed(&trained.args(&[&first, &second], &[]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1].contains("first.txt") && lines[3].starts_with("total "),
        "{table}"
    );
    let total: Vec<&str> = lines[3].split_whitespace().collect();
    let scored = trained.json(&[&first, &second], &[]);
    assert_eq!(
        (total[1], total[2]),
        ("41", &*scored["n_tokens"].to_string())
    );
    let perplexity = scored["perplexity"].as_f64().unwrap();
    assert_eq!(total[5], format!("{perplexity:.4}"));
    let each = succeed(&trained.args(&[&first, &second], &["--per-document"]));
    assert_eq!(each.lines().count(), 4 + 41, "{each}");
    let tokens = succeed(&trained.args(&[&second], &["--per-token", "--top", "2"]));
    let (n_tokens, likeliest) = (
        tokens.lines().count() - 3,
        tokens.matches("likeliest:").count(),
    );
    assert_eq!(n_tokens, likeliest, "{tokens}");
    assert!(tokens.contains("second.txt, document 0"), "{tokens}");
}

#[test]
fn without_an_end_of_text_token_the_first_token_has_no_score() {
    let trained = Trained::new();
    let options = TrainOptions {
        vocab_size: 280,
        special_tokens: Vec::new(),
        ..TrainOptions::default()
    };
    let folder = trained.project.path("plain");
    train(&[LONG], &options).unwrap().save(&folder).unwrap();
    let text = trained.write("text.txt", LONG);
    let checkpoint = &trained.checkpoint;
    let args = [
        "score",
        "--checkpoint",
        checkpoint,
        "--tokenizer",
        utf8(&folder),
        "--text",
        &text,
    ];
    let run = gpu_tlm(&args);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("--ignore-tokenizer-mismatch"),
        "{}",
        run.stderr
    );
    let ignoring = ["--ignore-tokenizer-mismatch", "--json", "--top", "1"];
    let scored = succeed(&[&args[..], &ignoring].concat());
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let document = &scored["documents"][0];
    let of_tokens = document["token_logprobs"].as_array().unwrap();
    assert_eq!(
        of_tokens.len() as u64,
        document["n_tokens"].as_u64().unwrap()
    );
    assert!(of_tokens[0].is_null() && of_tokens[1..].iter().all(Value::is_number));
    let top = document["top"].as_array().unwrap();
    assert!(top.len() == of_tokens.len() && top[0].is_null() && top[1].is_array());
    let sum: f64 = of_tokens[1..].iter().map(|l| l.as_f64().unwrap()).sum();
    let mean = sum / (of_tokens.len() - 1) as f64;
    assert_near(scored["perplexity"].as_f64().unwrap(), (-mean).exp(), 1e-6);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let trained = Trained::new();
    let text = trained.write("text.txt", LONG);
    let empty = trained.write("empty.txt", END);
    let missing = utf8(&trained.project.path("missing.txt")).to_owned();
    for (file, more, parts) in [
        (
            &text,
            &["--stride", "0"][..],
            &["stride is 0", "at least 1"][..],
        ),
        (
            &text,
            &["--stride", "33"],
            &["stride is 33", "context length"],
        ),
        (
            &text,
            &["--window", "33"],
            &["window is 33", "context length"],
        ),
        (
            &text,
            &["--window", "10", "--stride", "11"],
            &["stride is 11", "the window"],
        ),
        (
            &text,
            &["--top", "21", "--per-token"],
            &["top is 21", "at most 20"],
        ),
        (&text, &["--top", "3"], &["--per-token", "--json"]),
        (&text, &["--json", "--per-token"], &["cannot be used with"]),
        (&text, &["--batch-size", "0"], &["batch_size"]),
        (&empty, &[], &["nothing to score"]),
        (&empty, &["--json"], &["nothing to score"]),
    ] {
        let run = gpu_tlm(&trained.args(&[file], more));
        assert_eq!(run.code, Some(2), "{more:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{more:?}");
        for part in parts {
            assert!(
                run.stderr.contains(part),
                "'{part}' is not in: {}",
                run.stderr
            );
        }
    }
    let run = gpu_tlm(&trained.args(&[&missing], &[]));
    assert!(
        run.code != Some(0) && run.stderr.contains("missing.txt"),
        "{}",
        run.stderr
    );
}
