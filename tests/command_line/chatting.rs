//! Conversations: `generate --chat`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use gpu_tlm::data::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Project, command, finished, gpu_tlm, succeed, utf8};

const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'assistant' %}> {{ m.content }}<|end|>{% else %}\
                        {{ m.role[0] }}: {{ m.content }}<|end|>{% endif %}{% endfor %}\
                        {% if add_generation_prompt %}> {% endif %}";

/// A model that goes on with the alphabet, a tokenizer of bytes and a template.
struct Talker {
    project: Project,
    tokenizer: PathBuf,
}

impl Talker {
    fn new() -> Self {
        let project = Project::new();
        let text = project.path("text.txt");
        std::fs::write(&text, "abcdefg<|end|>".repeat(300)).unwrap();
        let tokenizer = project.path("tokenizer");
        let tokenizer_args = [
            "tokenizer",
            "train",
            "--vocab-size",
            "258",
            "--input",
            utf8(&text),
            "--out",
            utf8(&tokenizer),
        ];
        let specials = [
            "--special-token",
            "<|endoftext|>",
            "--special-token",
            "<|end|>",
        ];
        succeed(&[&tokenizer_args[..], &specials].concat());
        std::fs::write(tokenizer.join("chat_template.jinja"), TEMPLATE).unwrap();
        let tokens = project.path("train.npy");
        succeed(&[
            "tokenizer",
            "encode",
            "--tokenizer",
            utf8(&tokenizer),
            "--input",
            utf8(&text),
            "--out",
            utf8(&tokens),
        ]);
        project.write_config(json!({
            "vocab_size": 258, "context_length": 64, "eval_interval": 0, "max_iters": 30, "batch_size": 2,
            "micro_batch_size": 2, "tokenizer": tokenizer, "val_path": null,
        }));
        let run = project.train("run", &[]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        Self { project, tokenizer }
    }

    fn args<'a>(&'a self, checkpoint: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let model = [
            "generate",
            "--checkpoint",
            checkpoint,
            "--tokenizer",
            utf8(&self.tokenizer),
        ];
        [&model[..], &["--temperature", "0"], more].concat()
    }

    fn generate_once(&self, more: &[&str]) -> String {
        succeed(&self.args(&self.project.checkpoint("run"), more))
    }

    fn generate(&self, more: &[&str]) -> String {
        self.generate_once(&[&["--max-new-tokens", "5"], more].concat())
    }

    /// What stands behind a text.
    fn completion(&self, prompt: &str) -> String {
        let said: Value = serde_json::from_str(&self.generate(&[
            "--prompt",
            prompt,
            "--json",
            "--eos-token",
            "<|end|>",
        ]))
        .unwrap();
        said["completion"].as_str().unwrap().to_owned()
    }

    fn talk(&self, lines: &str, more: &[&str]) -> (String, String) {
        let checkpoint = self.project.checkpoint("run");
        let mut child = command(&self.args(
            &checkpoint,
            &[&["--chat", "--max-new-tokens", "5"], more].concat(),
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        let run = finished(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        (run.stdout, run.stderr)
    }
}

#[test]
fn a_conversation_is_what_the_template_makes_of_it() {
    let talker = Talker::new();
    let first = talker.completion("u: abc<|end|>> ");
    assert!(!first.is_empty() && !first.contains('\n'), "{first:?}");
    // One question.
    let once = ["--chat", "--prompt", "abc"];
    assert_eq!(talker.generate(&once), format!("{first}\n"));
    let told = talker.completion("s: be brief<|end|>u: abc<|end|>> ");
    assert_eq!(
        talker.generate(&[&once[..], &["--system", "be brief"]].concat()),
        format!("{told}\n")
    );
    // Several, each behind what was said before, and then anew.
    let second = talker.completion(&format!("u: abc<|end|>> {first}<|end|>u: cd<|end|>> "));
    let (said, _) = talker.talk("abc\n\ncd\n/reset\nabc\n/exit\nabc\n", &[]);
    assert_eq!(said, format!("{first}\n{second}\n{first}\n"));
    // What is too long for the context goes, the oldest first.
    let long = "abcdefg".repeat(4);
    let alone = talker.completion(&format!("u: {long}<|end|>> "));
    let (said, notice) = talker.talk(&format!("abc\n{long}\n{long}\n"), &[]);
    assert_eq!(said.lines().next_back(), Some(&*alone));
    assert!(
        notice
            .contains("the oldest question and its answer were forgotten, since the context is 64"),
        "{notice}"
    );
}

/// The token that ends a turn in the template ends an answer, beside those that end texts.
#[test]
fn an_answer_ends_with_its_turn() {
    let talker = Talker::new();
    let ask = [
        "--chat",
        "--prompt",
        "abc",
        "--json",
        "--max-new-tokens",
        "20",
    ];
    let said = |more: &[&str]| -> Value {
        let text = talker.generate_once(&[&ask[..], more].concat());
        serde_json::from_str(&text).unwrap()
    };
    let tokens = |said: &Value| -> Vec<u64> {
        let tokens = said["tokens"].as_array().unwrap();
        tokens.iter().map(|token| token.as_u64().unwrap()).collect()
    };
    let [without, with] = [&["--eos-token", "none"][..], &[]].map(said);
    let tokenizer = Tokenizer::load(&talker.tokenizer).unwrap();
    let end_of_turn = u64::from(tokenizer.token_id("<|end|>").unwrap());
    let all = tokens(&without);
    let turn = all.iter().position(|&token| token == end_of_turn).unwrap();
    assert_eq!(tokens(&with), all[..turn]);
    assert_eq!(
        (&with["finish_reason"], &without["finish_reason"]),
        (&json!("end"), &json!("length"))
    );
}

#[test]
fn what_is_no_chat_is_told() {
    let talker = Talker::new();
    let checkpoint = talker.project.checkpoint("run");
    let fails = |more: &[&str], wanted: &str| {
        let run = gpu_tlm(&talker.args(&checkpoint, more));
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(wanted), "{more:?}: {}", run.stderr);
    };
    fails(&["--system", "be brief"], "--chat");
    fails(&["--chat", "--prompt-tokens", "1,2"], "cannot be used with");
    for flag in [&["--json"][..], &["--num-samples", "2"]] {
        fails(
            &[&["--chat"][..], flag].concat(),
            "left out in a conversation",
        );
    }
    let template = talker.tokenizer.join("chat_template.jinja");
    let write = |text: &str| std::fs::write(&template, text).unwrap();
    write("{{ messages | nothing }}");
    let run = gpu_tlm(&talker.args(&checkpoint, &["--chat", "--prompt", "a"]));
    assert!(
        run.stderr.contains("the chat template") && run.stderr.contains("nothing"),
        "{}",
        run.stderr
    );
    std::fs::remove_file(&template).unwrap();
    fails(&["--chat", "--prompt", "a"], "have no chat template");
    assert!(!Path::new("chat_template.jinja").exists());
}
