//! The files of other programs: written and read back, and refused where they contradict
//! themselves. The merges of all cases are `o w` and `l ow`.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use gpu_tlm::data::tokenizer::train::{SpecialIds, TrainOptions, train};
use gpu_tlm::data::tokenizer::{Format, Tokenizer};
use serde_json::{Value, json};

use super::{END_OF_TEXT, learn, options};

const FORMATS: [Format; 4] = [
    Format::Gpt2,
    Format::Cs336,
    Format::HuggingFace,
    Format::Tiktoken,
];

fn specials() -> Vec<String> {
    vec![END_OF_TEXT.to_owned()]
}

/// A tokenizer whose special token has the last id.
fn learn_last(text: &str, vocab_size: usize) -> Tokenizer {
    let options = TrainOptions {
        special_ids: SpecialIds::Last,
        ..options(vocab_size, &[END_OF_TEXT])
    };
    train(&[text], &options).unwrap()
}

#[test]
fn every_format_gives_back_what_was_saved() {
    let text = "low lower lowest 日本語 naïve\n\n \u{AD} aaaa <|endoftext|>".repeat(3);
    for saved in [learn(&text, 290), learn_last(&text, 290)] {
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            saved.save_as(format, dir.path()).unwrap();
            let loaded = Tokenizer::load_with(dir.path(), None, &specials()).unwrap();
            assert_eq!(loaded.hash(), saved.hash(), "{format:?}");
        }
    }
}

#[test]
fn several_formats_in_a_folder_have_to_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (learn("low lower", 262), learn("cat catch", 262));
    one.save_as(Format::Gpt2, dir.path()).unwrap();
    one.save_as(Format::HuggingFace, dir.path()).unwrap();
    assert_eq!(Tokenizer::load(dir.path()).unwrap().hash(), one.hash());
    other.save_as(Format::HuggingFace, dir.path()).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("merges.txt and tokenizer.json differ"),
        "{error}"
    );
    for (path, wanted) in [
        (dir.path().to_owned(), &one),
        (dir.path().join("tokenizer.json"), &other),
    ] {
        let format = path.is_dir().then_some(Format::Gpt2);
        let loaded = Tokenizer::load_with(&path, format, &[]).unwrap();
        assert_eq!(loaded.hash(), wanted.hash());
    }
    let missing = Tokenizer::load_with(dir.path(), Some(Format::Tiktoken), &[]);
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("does not hold a .tiktoken file"), "{error}");
}

#[test]
fn a_tokenizer_for_hugging_face_names_its_end_of_text() {
    let dir = tempfile::tempdir().unwrap();
    let config = || -> Value {
        let path = dir.path().join("tokenizer_config.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let saved = learn("low lower", 262);
    saved.save_as(Format::HuggingFace, dir.path()).unwrap();
    assert_eq!(config()["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(config()["bos_token"], END_OF_TEXT);
    assert_eq!(config()["eos_token"], END_OF_TEXT);
    let without = train(&["low lower"], &options(261, &[])).unwrap();
    without.save_as(Format::HuggingFace, dir.path()).unwrap();
    assert_eq!(config().get("eos_token"), None);
}

/// Ids and bytes of a small tokenizer.
fn tokens(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    (0..)
        .map_while(|id| tokenizer.token_bytes(id).map(<[u8]>::to_vec))
        .collect()
}

#[test]
fn every_spelling_of_the_cs336_map_is_read() {
    let saved = learn("low lower lowest", 262);
    let dir = tempfile::tempdir().unwrap();
    saved.save_as(Format::Gpt2, dir.path()).unwrap();
    let by_token: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("vocab.json")).unwrap()).unwrap();
    let by_id: serde_json::Map<String, Value> = by_token
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.to_string(), token.clone().into()))
        .collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
    let all = tokens(&saved);
    let by_number = |value: &dyn Fn(&[u8]) -> Value| -> Value {
        let entries = all.iter().enumerate();
        Value::Object(
            entries
                .map(|(id, token)| (id.to_string(), value(token)))
                .collect(),
        )
    };
    let hex_by_id = by_number(&|token| hex(token).into());
    let numbers_by_id = by_number(&|token| token.into());
    let entries = all.iter().enumerate();
    let hex_by_token = Value::Object(entries.map(|(id, token)| (hex(token), id.into())).collect());
    for vocab in [
        by_token,
        by_id.into(),
        hex_by_id,
        numbers_by_id,
        hex_by_token,
    ] {
        let dir = tempfile::tempdir().unwrap();
        saved.save_as(Format::Cs336, dir.path()).unwrap();
        std::fs::write(dir.path().join("vocab.json"), vocab.to_string()).unwrap();
        let loaded = Tokenizer::load(dir.path());
        let start: String = vocab.to_string().chars().take(40).collect();
        assert_eq!(loaded.unwrap().hash(), saved.hash(), "{start}");
    }
}

/// Writes a tokenizer, lets `damage` change a file's bytes, and gives the message of loading it.
fn message_of(format: Format, file: &str, damage: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let dir = tempfile::tempdir().unwrap();
    learn("low lower lowest", 261)
        .save_as(format, dir.path())
        .unwrap();
    let path = dir.path().join(file);
    std::fs::write(&path, damage(std::fs::read(&path).unwrap())).unwrap();
    let error = Tokenizer::load_with(dir.path(), None, &specials()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(file) && !message.contains('\n'),
        "{message}"
    );
    message
}

#[test]
fn damaged_pickles_are_refused_and_run_nothing() {
    let pickles: [(&[u8], &str); 7] = [
        // Protocol 0: os.system("true").
        (b"cos\nsystem\n(S'true'\ntR.", "global"),
        (b"", "no pickled list"),
        (b"}.", "it holds no list"),
        (b"]K\x01a.", "merge 0 is no pair"),
        // [("o", "w")] as text, not bytes.
        (
            b"](X\x01\0\0\0oX\x01\0\0\0w\x86e.",
            "merge 0 is no pair of bytes",
        ),
        (
            b"\x80\x03](C\x01zC\x01z\x86e.",
            "merge 0 makes \"zz\", which is not in the vocabulary",
        ),
        (
            b"\x80\x03](C\x01lC\x02ow\x86e.",
            "merge 0 joins \"ow\", which is neither",
        ),
    ];
    for (pickle, wanted) in pickles {
        let message = message_of(Format::Cs336, "merges.pkl", |_| pickle.to_vec());
        assert!(message.contains(wanted), "{pickle:?}: {message}");
    }
}

#[test]
fn damaged_cs336_maps_are_refused_by_entry() {
    for (from, to, wanted) in [
        ("\"21\"", "\"zz\"", "is missing, the token of byte 33"),
        ("\"6f77\"", "119", "token \"257\" is written another way"),
        ("\"1\":", "\"0\":", "token \"0\" is there twice"),
        ("\"1\":", "\"one\":", "token \"one\" has no id"),
        (
            "\"6f77\"",
            "\"21\"",
            "\"ow\", which is not in the vocabulary",
        ),
    ] {
        let damage = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1).into_bytes()
        };
        let dir = tempfile::tempdir().unwrap();
        learn("low lower lowest", 261)
            .save_as(Format::Cs336, dir.path())
            .unwrap();
        let path = dir.path().join("vocab.json");
        std::fs::write(&path, damage(std::fs::read(&path).unwrap())).unwrap();
        let message = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(message.contains(wanted), "{from} {to}: {message}");
    }
}

#[test]
fn what_hugging_face_does_otherwise_is_refused() {
    for (pointer, value, wanted) in [
        (
            "/normalizer",
            json!({"type": "Lowercase"}),
            "a normalizer of type \"Lowercase\"",
        ),
        (
            "/model/type",
            json!("Unigram"),
            "a model of type \"Unigram\"",
        ),
        (
            "/decoder",
            json!({"type": "Metaspace"}),
            "a decoder of type \"Metaspace\"",
        ),
        ("/model/byte_fallback", json!(true), "byte_fallback = true"),
        ("/model/dropout", json!(0.1), "dropout = 0.1"),
        (
            "/pre_tokenizer/add_prefix_space",
            json!(true),
            "the pre_tokenizer",
        ),
        (
            "/pre_tokenizer/type",
            json!("Metaspace"),
            "the pre_tokenizer",
        ),
        (
            "/added_tokens/0/lstrip",
            json!(true),
            "\"<|endoftext|>\" with single_word, lstrip",
        ),
        (
            "/added_tokens/0/content",
            json!("x y"),
            "token \"<|endoftext|>\" has id 0, as added token \"x y\"",
        ),
        (
            "/model/merges/0",
            json!("q x"),
            "merge 0 makes \"qx\", which is not in the vocabulary",
        ),
        ("/model/merges/1", json!(["l"]), "did not match"),
    ] {
        let message = message_of(Format::HuggingFace, "tokenizer.json", |bytes| {
            let mut file: Value = serde_json::from_slice(&bytes).unwrap();
            *file.pointer_mut(pointer).unwrap() = value;
            file.to_string().into_bytes()
        });
        assert!(message.contains(wanted), "{pointer}: {message}");
    }
}

#[test]
fn both_spellings_of_hugging_faces_splitter_and_merges_are_read() {
    let saved = learn("low lower lowest", 262);
    let dir = tempfile::tempdir().unwrap();
    saved.save_as(Format::HuggingFace, dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let pairs = file["model"]["merges"].as_array().unwrap().iter();
    let pairs = pairs.map(|line| json!(line.as_str().unwrap().split(' ').collect::<Vec<_>>()));
    file["model"]["merges"] = pairs.collect();
    let pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    std::fs::write(&path, file.to_string()).unwrap();
    assert_eq!(Tokenizer::load(&path).unwrap().hash(), saved.hash());
}

#[test]
fn damaged_ranks_are_refused_by_line() {
    let line = |token: &str, rank: u32| format!("{} {rank}\n", BASE64_STANDARD.encode(token));
    for (from, to, wanted) in [
        (
            line("ow", 257),
            "b3c=257\n".to_owned(),
            "is not a token and a rank",
        ),
        (
            line("ow", 257),
            "b3c 257\n".to_owned(),
            "has a token that is no base64",
        ),
        (
            line("ow", 257),
            "b3c= -1\n".to_owned(),
            "has a rank that is no number",
        ),
        (
            line("ow", 257),
            line("low", 257),
            "has a token that is there before",
        ),
        (
            line("ow", 257),
            line("ow", 258),
            "token \"low\" has id 258, as \"ow\" has",
        ),
        (
            line("ow", 257),
            line("ow", 900),
            "token \"ow\" has id 900, which leaves a gap",
        ),
        (
            line("ow", 257),
            line("zz", 257),
            "token \"low\" of rank 258 is not made of two tokens",
        ),
        (
            line("!", 1),
            line("zzz", 1),
            "is missing, the token of byte 33",
        ),
    ] {
        let message = message_of(Format::Tiktoken, "tokenizer.tiktoken", |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(&from), "no {from:?} in {text}");
            text.replacen(&from, &to, 1).into_bytes()
        });
        assert!(message.contains(wanted), "{to:?}: {message}");
    }
}

#[test]
fn what_ranks_cannot_say_is_not_written() {
    // Two merges make one token, or ids are in another order than the merges.
    let dir = tempfile::tempdir().unwrap();
    learn("low lower lowest", 261).save(dir.path()).unwrap();
    let path = dir.path().join("vocab.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let swapped = text
        .replace("\"ow\": 257", "\"ow\": 258")
        .replace("\"low\": 258", "\"low\": 257");
    assert_ne!(text, swapped);
    std::fs::write(&path, swapped).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let out = dir.path().join("out");
    let error = tokenizer
        .save_as(Format::Tiktoken, &out)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("token \"low\" cannot be written as a rank"),
        "{error}"
    );
    assert!(!Path::new(&out.join("tokenizer.tiktoken")).exists());
}
