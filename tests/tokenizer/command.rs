//! `gpu-tlm tokenizer` from its arguments to its files.

use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use gpu_tlm::Error;
use gpu_tlm::cli::tokenizer::{TokenizerArgs, run};

pub(super) fn run_words(words: &[&str]) -> Result<(), Error> {
    let command = TokenizerArgs::augment_args(Command::new("tokenizer").no_binary_name(true));
    let matches = command.get_matches_from(words);
    run(&TokenizerArgs::from_arg_matches(&matches).unwrap())
}

#[test]
fn documents_are_joined_by_the_end_of_text_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (first, second, tokens, back) = (path("1"), path("2"), path("t.npy"), path("back"));
    std::fs::write(&first, "low lower\n").unwrap();
    std::fs::write(&second, "lowest").unwrap();
    let vocab = path("vocab");
    let train = [
        "train",
        "--vocab-size",
        "260",
        "--out",
        &vocab,
        "--input",
        &first,
        &second,
    ];
    for (special, joined) in [
        ("<|endoftext|>", "low lower\n<|endoftext|>lowest"),
        ("<|other|>", "low lower\nlowest"),
    ] {
        run_words(&[&train[..], &["--special-token", special]].concat()).unwrap();
        let encode = ["encode", "--tokenizer", &vocab, "--out", &tokens, "--input"];
        run_words(&[&encode[..], &[&first, &second]].concat()).unwrap();
        let decode = [
            "decode",
            "--tokenizer",
            &vocab,
            "--input",
            &tokens,
            "--out",
            &back,
        ];
        run_words(&decode).unwrap();
        assert_eq!(std::fs::read_to_string(&back).unwrap(), joined);
    }
}

#[test]
fn text_that_is_not_utf8_leaves_no_token_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (text, vocab, tokens) = (path("text"), path("vocab"), path("t.npy"));
    std::fs::write(&text, "abc").unwrap();
    run_words(&[
        "train",
        "--vocab-size",
        "257",
        "--out",
        &vocab,
        "--input",
        &text,
    ])
    .unwrap();
    std::fs::write(&text, b"abc\xFF").unwrap();
    let encode = [
        "encode",
        "--tokenizer",
        &vocab,
        "--out",
        &tokens,
        "--input",
        &text,
    ];
    let message = run_words(&encode).unwrap_err().to_string();
    assert!(message.contains("text is not UTF-8 at byte 3"), "{message}");
    assert!(!Path::new(&tokens).exists());
}

#[test]
fn a_models_tokenizer_goes_through_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (text, tokens, back, copy) = (path("text"), path("t.npy"), path("back"), path("copy"));
    std::fs::write(&text, "cafe\u{301} 2024<|im_end|>").unwrap();
    let model = super::models::folder("qwen2");
    let convert = ["--to", "hugging-face", "--out", &copy];
    let model = model.to_str().unwrap();
    run_words(&[&["convert", "--tokenizer", model][..], &convert].concat()).unwrap();
    let config = std::fs::read_to_string(dir.path().join("copy/tokenizer_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["eos_token"], "<|im_end|>");
    let template = config["chat_template"].as_str().unwrap();
    assert!(
        template.contains("<|im_start|>{{ message.role }}"),
        "{template}"
    );
    let files = ["--input", &text, "--out", &tokens];
    run_words(&[&["encode", "--tokenizer", &copy][..], &files].concat()).unwrap();
    // The copy has the model's hash, which the token file names.
    let files = ["--input", &tokens, "--out", &back];
    run_words(&[&["decode", "--tokenizer", model][..], &files].concat()).unwrap();
    assert_eq!(
        std::fs::read_to_string(&back).unwrap(),
        "café 2024<|im_end|>"
    );
    run_words(&["info", "--tokenizer", model, "--json"]).unwrap();
    let error = run_words(&[
        "convert",
        "--tokenizer",
        model,
        "--to",
        "gpt2",
        "--out",
        &copy,
    ]);
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("cannot say that text is cut as by qwen2"),
        "{message}"
    );
}
