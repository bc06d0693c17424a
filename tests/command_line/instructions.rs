//! Instruction data: trained on, evaluated on, and what is wrong with it.

use gpu_tlm::data::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::runs::{tensors, without_run};
use super::{Project, gpu_tlm, succeed, utf8};

const TEMPLATE: &str = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}\
                        {% if add_generation_prompt %}a:{% endif %}";

/// A project with two tokenizers of bytes, and two files of questions, as messages and as pairs.
fn project() -> Project {
    let project = Project::new();
    let text = project.path("text.txt");
    std::fs::write(&text, "abc").unwrap();
    for (name, size) in [("tokenizer", "257"), ("other", "258")] {
        let (text, out) = (utf8(&text), project.path(name));
        let train = [
            "tokenizer",
            "train",
            "--vocab-size",
            size,
            "--input",
            text,
            "--out",
            utf8(&out),
        ];
        succeed(&train);
    }
    std::fs::write(
        project.path("tokenizer").join("chat_template.jinja"),
        TEMPLATE,
    )
    .unwrap();
    let chat = |i: u32| {
        let message = |role, content: String| json!({ "role": role, "content": content });
        let messages = [
            message("user", format!("{i}+1")),
            message("assistant", format!("{}", i + 1)),
        ];
        format!("{}\n", json!({ "messages": messages }))
    };
    let pair = |i: u32| {
        let line = json!({ "prompt": format!("{i}+2="), "completion": format!("{}", i + 2) });
        format!("{line}\n")
    };
    let of = |numbers: std::ops::Range<u32>| -> String {
        numbers
            .map(|i| if i % 2 == 0 { chat(i) } else { pair(i) })
            .collect()
    };
    std::fs::write(project.path("train.jsonl"), of(1..11)).unwrap();
    std::fs::write(project.path("val.jsonl"), of(7..11)).unwrap();
    project.write_config(json!({
        "vocab_size": 260, "tokenizer": project.path("tokenizer"), "eval_iters": 0, "max_iters": 20,
        "train_path": project.path("train.jsonl"), "val_path": project.path("val.jsonl"),
        "sampling": "shuffle",
    }));
    project
}

fn trained(project: &Project, logdir: &str, more: &[&str]) -> String {
    let run = project.train(logdir, more);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stderr
}

#[test]
fn eval_and_a_run_measure_the_same_mean_over_answers() {
    let project = project();
    trained(&project, "run", &[]);
    let lines = project.metrics("run");
    let evals = lines.iter().filter(|line| line["kind"] == "eval");
    let losses: Vec<f64> = evals
        .map(|line| line["val_loss"].as_f64().unwrap())
        .collect();
    let (first, of_run) = (losses[0], losses[losses.len() - 1]);
    assert!(of_run < first, "{losses:?}");
    let (checkpoint, data) = (project.checkpoint("run"), project.path("val.jsonl"));
    let args = ["eval", "--checkpoint", &checkpoint, "--data", utf8(&data)];
    let tokenizer = project.path("tokenizer");
    // The run has noted its tokenizer; three rows a pass leave one for the last.
    for more in [
        &[][..],
        &["--tokenizer", utf8(&tokenizer)],
        &["--batch-size", "3"],
    ] {
        let text = succeed(&[&args[..], &["--json"], more].concat());
        let said: Value = serde_json::from_str(&text).unwrap();
        let loss = said["loss"].as_f64().unwrap();
        // f32 sums of other lengths.
        assert!((loss / of_run - 1.0).abs() <= 1e-6, "{loss} for {of_run}");
        // "9" and an end of text, "9;", "11" and an end, "11;".
        assert_eq!(said["tokens"], 2 + 2 + 3 + 3, "{said}");
    }
    let other = project.path("other");
    let mismatched = [&args[..], &["--tokenizer", utf8(&other)]].concat();
    let run = gpu_tlm(&mismatched);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let hash = Tokenizer::load(&other).unwrap().hash();
    assert!(run.stderr.contains(&hash[..12]), "{}", run.stderr);
    std::fs::write(other.join("chat_template.jinja"), TEMPLATE).unwrap();
    succeed(&[&mismatched[..], &["--ignore-tokenizer-mismatch"]].concat());
}

#[test]
fn a_run_on_instruction_data_goes_on_with_the_same_bits() {
    let project = project();
    for more in [
        &[][..],
        &["--document-mask"],
        &["--document-mask", "--sampling", "random"],
    ] {
        for logdir in ["whole", "parts"] {
            let _ = std::fs::remove_dir_all(project.path(logdir));
        }
        trained(&project, "whole", more);
        let said = trained(&project, "parts", &[more, &["--max-iters", "10"]].concat());
        // Two examples of six to nine tokens fit a row of sixteen, mostly.
        let rows = if more.is_empty() { "10 rows" } else { "6 rows" };
        assert!(
            said.contains(&format!("10 examples in {rows} of 16 tokens")),
            "{said}"
        );
        let half = project.checkpoint("parts");
        trained(
            &project,
            "parts",
            &[more, &["--load-checkpoint", &half]].concat(),
        );
        let [whole, parts] = ["whole", "parts"].map(|logdir| tensors(&project.checkpoint(logdir)));
        assert!(whole == parts, "{more:?}");
        let [whole, parts] = ["whole", "parts"].map(|logdir| without_run(project.metrics(logdir)));
        assert_eq!(whole, parts);
    }
}

#[test]
fn data_that_cannot_be_learnt_is_refused() {
    let project = project();
    let train = project.path("train.jsonl");
    let refused = |flags: &[&str], wanted: &[&str]| {
        let run = project.train("new", flags);
        assert!(run.code == Some(1) || run.code == Some(2), "{}", run.stderr);
        for part in wanted {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    };
    // A question alone takes four tokens.
    refused(
        &["--context-length", "2"],
        &["none of the 10 examples of", "= 3 tokens"],
    );
    let other = project.path("other");
    refused(
        &["--tokenizer", utf8(&other)],
        &["line 2 of", "have no chat template"],
    );
    std::fs::write(&train, "").unwrap();
    refused(&[], &["train.jsonl", "holds no example"]);
    std::fs::write(&train, "{\"prompt\": \"a\", \"completion\": 1}\n").unwrap();
    refused(
        &[],
        &["line 1 of", "has a completion that is 1, and no text"],
    );
    let long = json!({ "prompt": "12345678901234567890", "completion": "x" });
    std::fs::write(
        &train,
        format!("{long}\n{}\n", json!({ "prompt": "1", "completion": "2" })),
    )
    .unwrap();
    let said = trained(&project, "cut", &["--max-iters", "1"]);
    assert!(
        said.contains("1 of 2 examples are longer")
            && said.contains("1 of all have no answer left"),
        "{said}"
    );
    project.write_config(json!({ "vocab_size": 260, "train_path": train, "val_path": null }));
    refused(&[], &["is instruction data", "--tokenizer DIR"]);
    let tokens = project.path("val.npy");
    let tokens = ["--train-path", utf8(&tokens), "--document-mask"];
    refused(&tokens, &["which token ends a document", "--tokenizer DIR"]);
}

#[test]
fn a_run_keeps_the_tokenizer_of_its_model_in_the_place_of_another() {
    let project = project();
    trained(&project, "first", &["--max-iters", "1"]);
    let (first, data) = (project.checkpoint("first"), project.path("train.jsonl"));
    let run = project.path("run");
    let kept = run.join("tokenizer");
    std::fs::create_dir_all(&kept).unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(project.path("other").join(name), kept.join(name)).unwrap();
    }
    let train = [
        "train",
        "--init-from",
        &first,
        "--train-path",
        utf8(&data),
        "--logdir",
        utf8(&run),
        "--max-iters",
        "1",
    ];
    succeed(&train);
    let hash = |path| Tokenizer::load(path).unwrap().hash();
    assert_eq!(hash(&kept), hash(&project.path("tokenizer")));
    let (config, checkpoint) = (run.join("config.json"), project.checkpoint("run"));
    let on = ["train", "--config", utf8(&config), "--max-iters", "2"];
    succeed(&[&on[..], &["--load-checkpoint", &checkpoint]].concat());
}
