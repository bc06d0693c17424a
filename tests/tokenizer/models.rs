//! Tokenizers of models from elsewhere: the ids of Hugging Face's tokenizers, which
//! `make_fixtures.py` wrote down, and the way through their files and back.

use std::path::{Path, PathBuf};

use gpu_tlm::data::tokenizer::{Format, Split, TokenRoles, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};

/// The folders of fixtures, with how each cuts text and the name that GGUF has for it.
pub(super) const MODELS: [(&str, Split, &str); 4] = [
    ("gpt2", Split::Gpt2, "gpt-2"),
    ("smollm", Split::Smollm, "smollm"),
    ("llama3", Split::Llama3, "llama-bpe"),
    ("qwen2", Split::Qwen2, "qwen2"),
];

/// Texts, and the ids that Hugging Face's tokenizers give to each by the name of a folder.
#[derive(Deserialize)]
struct Cases {
    texts: Vec<String>,
    normal_forms: Vec<String>,
    ids: std::collections::BTreeMap<String, Vec<String>>,
}

pub(super) fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/tokenizer/fixtures").join(name)
}

pub(super) fn load(name: &str) -> (Tokenizer, TokenRoles) {
    let path = folder(name);
    let tokenizer = Tokenizer::load(&path).unwrap();
    let roles = TokenRoles::load(&path, &tokenizer).unwrap();
    (tokenizer, roles)
}

fn cases() -> Cases {
    let text = std::fs::read_to_string(folder("cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn ids_are_those_of_hugging_faces_tokenizers() {
    let cases = cases();
    for (name, split, _) in MODELS {
        let (tokenizer, _) = load(name);
        assert_eq!(tokenizer.split(), split);
        assert_eq!(cases.ids[name].len(), cases.texts.len());
        for (text, wanted) in cases.texts.iter().zip(&cases.ids[name]) {
            let wanted: Vec<u32> = wanted
                .split_terminator(' ')
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(tokenizer.encode(text), wanted, "{name}: {text:?}");
        }
    }
}

#[test]
fn texts_come_back_but_for_their_form_and_missing_bytes() {
    let cases = cases();
    for (name, ..) in MODELS {
        let (tokenizer, _) = load(name);
        let missing = tokenizer.missing_bytes();
        assert_eq!(missing.is_empty(), name != "smollm");
        for (text, normal_form) in cases.texts.iter().zip(&cases.normal_forms) {
            let text = if tokenizer.normalizes() {
                normal_form
            } else {
                text
            };
            let wanted: Vec<u8> = text
                .bytes()
                .filter(|byte| !missing.contains(byte))
                .collect();
            let found = tokenizer.decode(&tokenizer.encode(text)).unwrap();
            assert_eq!(found, wanted, "{name}: {text:?}");
        }
    }
}

#[test]
fn chunks_of_any_length_give_the_same_ids() {
    let all = cases().texts.concat().repeat(2);
    for (name, ..) in MODELS {
        let (tokenizer, _) = load(name);
        let mut whole = Vec::new();
        tokenizer.encoder().encode(&all, &mut whole);
        for chunk_len in [1, 7, 100, 3000] {
            let mut found = Vec::new();
            let chunks: Vec<&str> = tokenizer.specials().chunks(&all, chunk_len).collect();
            assert!(chunks.len() > 1, "{name}: {chunk_len}");
            for chunk in chunks {
                tokenizer.encoder().encode(chunk, &mut found);
            }
            assert!(found == whole, "{name}: chunks of {chunk_len}");
        }
    }
}

#[test]
fn roles_are_read_from_every_file_that_has_some() {
    let named = |name: &str| {
        let (tokenizer, roles) = load(name);
        let text =
            |id: u32| String::from_utf8(tokenizer.token_bytes(id).unwrap().to_vec()).unwrap();
        let eos: Vec<String> = roles.eos.iter().map(|&id| text(id)).collect();
        (
            roles.bos.map(text),
            eos.join(" "),
            roles.pad.map(text),
            roles.add_bos,
        )
    };
    let some = |text: &str| Some(text.to_owned());
    let end = "<|endoftext|>";
    assert_eq!(
        named("gpt2"),
        (some(end), end.to_owned(), None, Some(false))
    );
    let (start, stop) = ("<|im_start|>", "<|im_end|>");
    assert_eq!(
        named("smollm"),
        (some(start), stop.to_owned(), some(stop), None)
    );
    let ends = "<|eot_id|> <|end_of_text|>".to_owned();
    assert_eq!(
        named("llama3"),
        (some("<|begin_of_text|>"), ends, None, Some(true))
    );
    let ends = format!("{stop} {end}");
    assert_eq!(named("qwen2"), (None, ends, some(end), Some(false)));
    for (name, ..) in MODELS {
        let (_, roles) = load(name);
        let has_template = roles
            .chat_template
            .is_some_and(|template| template.contains("<|im_start|>"));
        assert_eq!(has_template, name == "smollm" || name == "qwen2", "{name}");
    }
}

#[test]
fn hugging_faces_files_give_back_what_was_saved() {
    for (name, ..) in MODELS {
        let (saved, roles) = load(name);
        let dir = tempfile::tempdir().unwrap();
        saved
            .save_with(Format::HuggingFace, dir.path(), &roles)
            .unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(loaded.hash(), saved.hash(), "{name}");
        assert_eq!(loaded.special_tokens(), saved.special_tokens(), "{name}");
        let mut found = TokenRoles::load(dir.path(), &loaded).unwrap();
        // The others are in generation_config.json, which is the model's and not the tokenizer's.
        assert_eq!(found.eos, roles.eos[..1], "{name}");
        found.eos.clone_from(&roles.eos);
        assert_eq!(found, roles, "{name}");
    }
}

#[test]
fn what_other_formats_cannot_say_is_not_written() {
    for (name, wanted) in [
        ("gpt2", "special token 356 is looked for after others"),
        ("smollm", "text is cut as by smollm"),
        ("qwen2", "text is cut as by qwen2"),
    ] {
        let (tokenizer, _) = load(name);
        let dir = tempfile::tempdir().unwrap();
        let error = tokenizer.save(dir.path()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    let role = TokenRoles {
        pad: Some(9999),
        ..TokenRoles::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let error = load("gpt2")
        .0
        .save_with(Format::HuggingFace, dir.path(), &role);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("pad_token is id 9999"), "{error}");
}

/// The message of loading a fixture whose file was changed by `damage`.
fn load_changed(
    name: &str,
    file: &str,
    damage: impl FnOnce(&mut Value),
) -> Result<Tokenizer, String> {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    damage(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).map_err(|error| error.to_string())?;
    let roles = TokenRoles::load(dir.path(), &tokenizer).map_err(|error| error.to_string());
    roles.map(|_| tokenizer)
}

#[test]
fn the_hash_tells_rules_apart() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
    let changes: [(&str, Value); 4] = [
        ("/pre_tokenizer", byte_level),
        ("/model/ignore_merges", true.into()),
        (
            "/normalizer",
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
        ),
        ("/added_tokens/0/normalized", true.into()),
    ];
    let mut hashes = vec![load("smollm").0.hash()];
    for (pointer, value) in changes {
        let changed = load_changed("smollm", "tokenizer.json", |json| {
            *json.pointer_mut(pointer).unwrap() = value;
        });
        hashes.push(changed.unwrap().hash());
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn files_beside_a_tokenizer_that_contradict_it_are_refused_by_key() {
    for (file, key, value, wanted) in [
        (
            "tokenizer_config.json",
            "bos_token",
            json!("<s>"),
            "bos_token is \"<s>\", which is no token",
        ),
        (
            "tokenizer_config.json",
            "eos_token",
            json!({"content": "</s>"}),
            "eos_token is \"</s>\"",
        ),
        (
            "generation_config.json",
            "eos_token_id",
            json!([2, 99999]),
            "eos_token_id is 99999",
        ),
        (
            "generation_config.json",
            "eos_token_id",
            json!("x"),
            "eos_token_id is \"x\"",
        ),
    ] {
        let error = load_changed("llama3", file, |json| json[key] = value).unwrap_err();
        assert!(error.contains(file) && error.contains(wanted), "{error}");
    }
    // Programs add a token to fill up batches where the vocabulary lacks it.
    let padded = |json: &mut Value| json["pad_token"] = "[PAD]".into();
    assert!(load_changed("llama3", "tokenizer_config.json", padded).is_ok());
}

#[test]
fn a_vocab_beside_a_tokenizer_json_may_say_less() {
    let copy = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        let from = folder(name).join("tokenizer.json");
        let file: Value = serde_json::from_slice(&std::fs::read(&from).unwrap()).unwrap();
        std::fs::copy(from, dir.path().join("tokenizer.json")).unwrap();
        let vocab = file["model"]["vocab"].as_object().unwrap().iter();
        let vocab: serde_json::Map<String, Value> =
            vocab.map(|(k, v)| (k.clone(), v.clone())).collect();
        std::fs::write(
            dir.path().join("vocab.json"),
            Value::from(vocab).to_string(),
        )
        .unwrap();
        let merges = file["model"]["merges"].as_array().unwrap().iter();
        let lines = merges.map(|pair| {
            format!(
                "{} {}\n",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            )
        });
        let merges = "#version: 0.2\n".to_owned() + &lines.collect::<String>();
        std::fs::write(dir.path().join("merges.txt"), merges).unwrap();
        dir
    };
    for name in ["smollm", "qwen2"] {
        let dir = copy(name);
        assert_eq!(
            Tokenizer::load(dir.path()).unwrap().hash(),
            load(name).0.hash(),
            "{name}"
        );
        let path = dir.path().join("merges.txt");
        let text = std::fs::read_to_string(&path).unwrap();
        let (but_last, _) = text.trim_end().rsplit_once('\n').unwrap();
        std::fs::write(&path, but_last).unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("differ; keep one"), "{name}: {error}");
    }
}

#[test]
fn a_model_of_sentencepiece_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), "\n").unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("has a tokenizer.model of SentencePiece"),
        "{error}"
    );
}
