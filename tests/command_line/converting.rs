//! `gpu-tlm import` and `export`, and the commands that take what they write.

use std::path::Path;

use serde_json::{Value, json};

use super::generating::model;
use super::{Project, gpu_tlm, succeed, utf8};

/// The run did not do what was asked.
const FAILED: Option<i32> = Some(1);
/// What was asked cannot be.
const BAD_REQUEST: Option<i32> = Some(2);

/// Exports the model that `generating` trained, with its tokenizer.
fn export(to: &Path, more: &[&str]) -> String {
    let checkpoint = model().join("checkpoints/latest.safetensors");
    let tokenizer = model().join("tokenizer");
    let args = [
        "export",
        "--checkpoint",
        utf8(&checkpoint),
        "--out",
        utf8(to),
    ];
    succeed(&[&args[..], &["--tokenizer", utf8(&tokenizer)], more].concat())
}

/// What a model says, greedily.
fn said(checkpoint: &Path, more: &[&str]) -> Value {
    let args = [
        "generate",
        "--checkpoint",
        utf8(checkpoint),
        "--prompt",
        "Once upon",
        "--json",
    ];
    let greedy = ["--temperature", "0", "--max-new-tokens", "12"];
    serde_json::from_str(&succeed(&[&args[..], &greedy, more].concat())).unwrap()
}

#[test]
fn a_model_says_the_same_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let tokenizer = model().join("tokenizer");
    let tokenizer = ["--tokenizer", utf8(&tokenizer)];
    let own = model().join("checkpoints/latest.safetensors");
    let want = said(&own, &tokenizer);
    let is_same = |path: &Path, more: &[&str]| {
        let got = said(path, more);
        assert_eq!(got["completion"], want["completion"], "{}", path.display());
        assert_eq!(got["tokens"], want["tokens"], "{}", path.display());
    };
    // With a tokenizer of their own.
    let text = export(&path("hf"), &["--format", "hf"]);
    assert!(
        text.contains("permuted within each head: model.layers.0.self_attn.q_proj.weight"),
        "{text}"
    );
    is_same(&path("hf"), &[]);
    is_same(&path("hf/model.safetensors"), &[]);
    export(&path("m.gguf"), &["--format", "gguf"]);
    is_same(&path("m.gguf"), &[]);
    // Other commands take it as it is, too.
    let text = path("held-out.txt");
    std::fs::write(&text, "Once upon a time there was a train.").unwrap();
    let score = |checkpoint: &Path, more: &[&str]| {
        let args = [
            "score",
            "--checkpoint",
            utf8(checkpoint),
            "--text",
            utf8(&text),
            "--json",
        ];
        let json: Value = serde_json::from_str(&succeed(&[&args[..], more].concat())).unwrap();
        json["documents"].clone()
    };
    assert_eq!(score(&path("m.gguf"), &[]), score(&own, &tokenizer));
    let data = Project::new();
    let eval = |checkpoint: &Path| {
        let data = data.path("val.npy");
        let args = [
            "eval",
            "--checkpoint",
            utf8(checkpoint),
            "--data",
            utf8(&data),
            "--json",
        ];
        let json: Value = serde_json::from_str(&succeed(&args)).unwrap();
        json["loss"].clone()
    };
    assert_eq!(eval(&path("hf")), eval(&own));
    // Without.
    export(&path("m.bin"), &["--format", "llama2c"]);
    is_same(&path("m.bin"), &tokenizer);
    let text = export(&path("m.pt"), &["--format", "pt"]);
    assert!(text.contains("AdamW's state after 12 iterations"), "{text}");
    is_same(&path("m.pt"), &tokenizer);
    // A file that does not say all is imported first.
    export(&path("plain.safetensors"), &["--format", "safetensors"]);
    let imported = path("imported.safetensors");
    let import = [
        "import",
        utf8(&path("plain.safetensors")),
        "--out",
        utf8(&imported),
    ]
    .map(str::to_owned);
    let import: Vec<&str> = import.iter().map(String::as_str).collect();
    let refused = gpu_tlm(&import);
    assert_eq!(refused.code, BAD_REQUEST, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("context_length, num_heads, num_kv_heads are; give them"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("--num-heads"), "{}", refused.stderr);
    succeed(&[&import[..], &["--num-heads", "2", "--context-length", "32"]].concat());
    is_same(&imported, &tokenizer);
}

#[test]
fn an_import_brings_the_tokenizer_and_says_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    export(&path("m.gguf"), &["--format", "gguf", "--type", "f16"]);
    let (from, to, tokenizer) = (path("m.gguf"), path("m.safetensors"), path("tokenizer"));
    let args = ["import", utf8(&from), "--out", utf8(&to), "--json"];
    let json = succeed(&[&args[..], &["--tokenizer-out", utf8(&tokenizer)]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["format"], "GGUF");
    assert_eq!(json["types"], json!({"F16": 9, "F32": 3}));
    let got = said(&to, &["--tokenizer", utf8(&tokenizer)]);
    // The hash of the tokenizer is in the checkpoint, so that another one is refused.
    let other = model().join("tokenizer");
    assert_eq!(
        got["tokens"],
        said(&to, &["--tokenizer", utf8(&other)])["tokens"]
    );
    let hash = |folder: &Path| {
        let args = ["tokenizer", "info", "--tokenizer", utf8(folder), "--json"];
        let info: Value = serde_json::from_str(&succeed(&args)).unwrap();
        info["hash"].clone()
    };
    assert_eq!(hash(&tokenizer), hash(&other));
    let third = path("third");
    let text = path("text.txt");
    std::fs::write(&text, "quite another text, of which there is too little").unwrap();
    succeed(&[
        "tokenizer",
        "train",
        "--input",
        utf8(&text),
        "--vocab-size",
        "258",
        "--out",
        utf8(&third),
    ]);
    let run = gpu_tlm(&[
        "generate",
        "--checkpoint",
        utf8(&to),
        "--tokenizer",
        utf8(&third),
        "--prompt",
        "a",
    ]);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr.contains("was trained with tokenizer"),
        "{}",
        run.stderr
    );
    // What has no tokenizer has none to give.
    export(&path("m.bin"), &["--format", "llama2c"]);
    let bin = path("m.bin");
    let run = gpu_tlm(&[
        "import",
        utf8(&bin),
        "--out",
        utf8(&path("n")),
        "--tokenizer-out",
        utf8(&path("t")),
    ]);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr.contains("brings no tokenizer along"),
        "{}",
        run.stderr
    );
    assert!(!path("n").exists());
    let run = gpu_tlm(&["import", utf8(&to), "--out", utf8(&path("n"))]);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr.contains("is a checkpoint of gpu-tlm already"),
        "{}",
        run.stderr
    );
}

#[test]
fn training_takes_the_shape_of_the_model_that_it_starts_from() {
    let dir = tempfile::tempdir().unwrap();
    let hf = dir.path().join("hf");
    export(&hf, &["--format", "hf"]);
    let project = Project::new();
    let train = |logdir: &str, more: &[&str]| {
        let (data, logdir) = (project.path("train.npy"), project.path(logdir));
        let args = [
            "train",
            "--init-from",
            utf8(&hf),
            "--train-path",
            utf8(&data),
        ];
        let few = [
            "--logdir",
            utf8(&logdir),
            "--max-iters",
            "2",
            "--batch-size",
            "2",
        ];
        gpu_tlm(&[&args[..], &few, more].concat())
    };
    let run = train("run", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let config = std::fs::read_to_string(project.path("run/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["d_model"], &config["context_length"]),
        (&json!(32), &json!(32))
    );
    let source = config["sources"]["d_model"].as_str().unwrap();
    assert!(source.starts_with("init_from "), "{source}");
    // A shorter context is how one trains in less memory; another width is another model.
    let run = train("short", &["--context-length", "16"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    // A width of heads that follows from others is no other model, and a null in a config says nothing.
    let config = project.path("nulls.json");
    std::fs::write(&config, "{\"head_dim\": null, \"d_ff\": null}").unwrap();
    let run = train("heads", &["--config", utf8(&config)]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = train("explicit", &["--head-dim", "16"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let own = project.checkpoint("explicit");
    let gguf = dir.path().join("m.gguf");
    succeed(&[
        "export",
        "--checkpoint",
        &own,
        "--format",
        "gguf",
        "--out",
        utf8(&gguf),
    ]);
    // So it is with a checkpoint of our own: other heads would read the same bytes as another model.
    let data = project.path("train.npy");
    let logdir = project.path("own");
    let args = [
        "train",
        "--init-from",
        &own,
        "--train-path",
        utf8(&data),
        "--logdir",
        utf8(&logdir),
    ];
    let run = gpu_tlm(&[&args[..], &["--num-heads", "4", "--max-iters", "1"]].concat());
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr
            .contains("has a model with num_heads = 2, and not 4"),
        "{}",
        run.stderr
    );
    let run = train("other", &["--d-model", "64"]);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr
            .contains("has a model with d_model = 32, and not 64"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let checkpoint = model().join("checkpoints/latest.safetensors");
    let args = [
        "export",
        "--checkpoint",
        utf8(&checkpoint),
        "--out",
        utf8(&out),
    ];
    let refused = |more: &[&str], message: &str| {
        let run = gpu_tlm(&[&args[..], more].concat());
        assert_eq!(run.code, BAD_REQUEST, "{more:?}\n{}", run.stderr);
        assert!(run.stderr.contains(message), "{more:?}\n{}", run.stderr);
        assert!(!out.exists(), "{more:?}");
    };
    refused(
        &["--format", "hf", "--type", "q8_0"],
        "a Hugging Face folder cannot hold this model: it has no elements of type Q8_0",
    );
    refused(
        &["--format", "llama2c", "--type", "f16"],
        "a llama2.c file cannot hold this model",
    );
    // A model of no known family.
    let project = Project::new();
    let run = project.train("run", &["--max-iters", "1", "--norm", "layer"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let own = project.checkpoint("run");
    let run = gpu_tlm(&[
        "export",
        "--checkpoint",
        &own,
        "--out",
        utf8(&out),
        "--format",
        "gguf",
    ]);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    let message = "GGUF cannot hold this model: with norm = layer it has to be a GPT-2, whose activation is another";
    assert!(run.stderr.contains(message), "{}", run.stderr);
}

#[test]
fn every_part_of_an_architecture_trains_and_generates() {
    let project = Project::new();
    for (number, more) in [
        &["--norm", "layer"][..],
        &["--activation", "gelu", "--biases"],
        &["--positions", "learned"],
        &["--qk-norm", "--head-dim", "24"],
        &[
            "--rope-scaling",
            "llama3",
            "--rope-factor",
            "8",
            "--rope-original-context",
            "8",
        ],
        &[
            "--norm",
            "layer",
            "--activation",
            "gelu",
            "--positions",
            "learned",
            "--biases",
            "--precision",
            "mixed",
        ],
        &[
            "--qk-norm",
            "--biases",
            "--precision",
            "mixed",
            "--tie-embeddings",
        ],
        &[
            "--positions",
            "learned",
            "--biases",
            "--activation-checkpointing",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let logdir = format!("run-{number}");
        let run = project.train(&logdir, more);
        assert_eq!(run.code, Some(0), "{more:?}\n{}", run.stderr);
        let lines = project.metrics(&logdir);
        let losses = lines.iter().filter_map(|line| line["loss"].as_f64());
        let losses: Vec<f64> = losses.collect();
        assert!(
            losses[losses.len() - 1] < 0.5 * losses[0],
            "{more:?}: {losses:?}"
        );
        let tokens = [
            "--prompt-tokens",
            "0,4,6",
            "--max-new-tokens",
            "20",
            "--temperature",
            "0",
            "--json",
        ];
        let checkpoint = project.checkpoint(&logdir);
        let args = ["generate", "--checkpoint", &checkpoint];
        let one: Value = serde_json::from_str(&succeed(&[&args[..], &tokens].concat())).unwrap();
        assert_eq!(one["tokens"].as_array().unwrap().len(), 20, "{more:?}");
    }
}

#[test]
fn a_model_with_a_vector_for_each_position_sees_no_more_of_them() {
    let project = Project::new();
    let run = project.train("run", &["--positions", "learned", "--max-iters", "2"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let checkpoint = project.checkpoint("run");
    // No vector for a position behind the context.
    let args = [
        "generate",
        "--checkpoint",
        &checkpoint,
        "--prompt-tokens",
        "0",
        "--overflow",
        "rolling",
    ];
    let run = gpu_tlm(&args);
    assert_eq!(run.code, BAD_REQUEST, "{}", run.stderr);
    assert!(
        run.stderr.contains("its cache cannot roll"),
        "{}",
        run.stderr
    );
    // It sees less where it is told to, and never more than it has vectors for.
    for context in ["8", "17"] {
        let args = [
            "generate",
            "--checkpoint",
            &checkpoint,
            "--prompt-tokens",
            "0,4",
        ];
        succeed(
            &[
                &args[..],
                &["--max-new-tokens", "12", "--context-length", context],
            ]
            .concat(),
        );
    }
    let short = [
        "--init-from",
        &checkpoint,
        "--positions",
        "learned",
        "--context-length",
        "8",
    ];
    let run = project.train("short", &[&short[..], &["--max-iters", "2"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_file_of_no_known_format_fails() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(
        &text,
        "no model, but a text that is longer than the start of a file",
    )
    .unwrap();
    let run = gpu_tlm(&[
        "generate",
        "--checkpoint",
        utf8(&text),
        "--prompt-tokens",
        "1",
    ]);
    assert_eq!(run.code, FAILED, "{}", run.stderr);
    assert!(
        run.stderr.contains("is a file of no format that is known"),
        "{}",
        run.stderr
    );
}
