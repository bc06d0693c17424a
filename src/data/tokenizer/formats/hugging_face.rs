//! Hugging Face's `tokenizer.json`, where it describes byte-level BPE with GPT-2's pre-tokens.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{END_OF_TEXT, Tokenizer, TokenizerError, index};
use super::vocabulary::{Entries, Entry, Merges, Vocabulary, problem_of};
use super::{commit, gpt2, prepare, read};

/// Names the class and the special tokens; nothing of it is read here.
const CONFIG_FILE: &str = "tokenizer_config.json";

/// The spellings of GPT-2's pattern in the wild; they match alike.
const PATTERNS: &[&str] = &[
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
];

/// What of the file is read as it is; the rest is looked at for what is not supported.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: Entries<u32>,
    merges: Vec<MergeParts>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A merge, in the newer or the older spelling.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeParts {
    Pair(String, String),
    Line(String),
}

/// Reads the file at `path`.
pub(super) fn load(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let json = read(path)?;
    // The kind of the model comes first: others have no merges, which would be a poorer message.
    let check: Result<Value, _> = serde_json::from_str(&json);
    let json_error = |cause| TokenizerError::Json {
        path: path.to_owned(),
        cause,
    };
    let unsupported = |what: String| TokenizerError::Unsupported {
        path: path.to_owned(),
        what,
    };
    let kind = &check.map_err(json_error)?["model"]["type"];
    if !(kind.is_null() || kind == "BPE") {
        return Err(unsupported(format!("a model of type {kind}")));
    }
    let file: File = serde_json::from_str(&json).map_err(json_error)?;
    check_supported(&file).map_err(unsupported)?;
    let mut entries: Vec<Entry> = Vec::new();
    let added = |id: u32| file.added_tokens.iter().find(|token| token.id == id);
    for (text, id) in file.model.vocab.distinct(path)? {
        if let Some(other) = added(id).filter(|token| token.content != text) {
            let problem = format!("has id {id}, as added token {:?} has", other.content);
            return Err(problem_of(path, &text, problem));
        }
        let mut entry = Entry::in_alphabet(text, id);
        if added(id).is_some() {
            entry.learnt = None;
        }
        entries.push(entry);
    }
    let in_vocab: Vec<u32> = entries.iter().map(|entry| entry.id).collect();
    let in_vocab: std::collections::HashSet<u32> = in_vocab.into_iter().collect();
    let outside = file
        .added_tokens
        .iter()
        .filter(|token| !in_vocab.contains(&token.id));
    entries.extend(outside.map(|token| Entry {
        learnt: None,
        ..Entry::in_alphabet(token.content.clone(), token.id)
    }));
    let vocabulary = Vocabulary::new(path.to_owned(), entries)?;
    let mut merges = Merges::default();
    for (merge_idx, parts) in file.model.merges.iter().enumerate() {
        let pushed = match parts {
            MergeParts::Pair(left, right) => {
                gpt2::push_texts(&mut merges, &vocabulary, left, right)
            }
            MergeParts::Line(line) => gpt2::push_line(&mut merges, &vocabulary, line),
        };
        pushed.map_err(|problem| TokenizerError::Entry {
            path: path.to_owned(),
            entry: format!("merge {merge_idx}"),
            problem,
        })?;
    }
    vocabulary.tokenizer(merges)
}

/// Refuses whatever would give other ids than are computed here.
fn check_supported(file: &File) -> Result<(), String> {
    let normalizer = &file.rest.get("normalizer").unwrap_or(&Value::Null);
    if !normalizer.is_null() {
        return Err(format!("a normalizer of type {}", normalizer["type"]));
    }
    let model = &file.model.rest;
    for key in [
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "dropout",
        "byte_fallback",
        "ignore_merges",
    ] {
        let value = model.get(key).unwrap_or(&Value::Null);
        if !(value.is_null() || value == false || value == "" || *value == json!(0.0)) {
            return Err(format!("a model with {key} = {value}"));
        }
    }
    for token in &file.added_tokens {
        if token.single_word || token.lstrip || token.rstrip {
            let content = &token.content;
            return Err(format!(
                "added token {content:?} with single_word, lstrip or rstrip"
            ));
        }
    }
    let splitter = file.rest.get("pre_tokenizer").unwrap_or(&Value::Null);
    let steps = match splitter["type"].as_str() {
        Some("Sequence") => splitter["pretokenizers"]
            .as_array()
            .map_or(&[][..], Vec::as_slice),
        _ => std::slice::from_ref(splitter),
    };
    let is_byte_level = |step: &Value, uses_regex: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] == false
            && step["use_regex"].as_bool().unwrap_or(true) == uses_regex
    };
    let is_gpt2_split = |step: &Value| {
        let pattern = step["pattern"]["Regex"].as_str();
        step["type"] == "Split"
            && pattern.is_some_and(|pattern| PATTERNS.contains(&pattern))
            && step["behavior"] == "Isolated"
            && step["invert"] == false
    };
    match steps {
        [step] if is_byte_level(step, true) => Ok(()),
        [split, step] if is_gpt2_split(split) && is_byte_level(step, false) => Ok(()),
        _ => Err(format!(
            "the pre_tokenizer {splitter}, which does not part text as GPT-2 does"
        )),
    }
}

/// Writes the file at `path`, and beside it what Hugging Face's `AutoTokenizer` needs to know.
pub(super) fn save(tokenizer: &Tokenizer, path: &Path) -> Result<(), TokenizerError> {
    let texts = gpt2::texts(tokenizer);
    let added = tokenizer.special_ids().iter().map(|&id| {
        json!({
            "id": id, "content": texts[index(id)], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    });
    let added: Vec<Value> = added.collect();
    let vocab: Map<String, Value> = texts
        .iter()
        .cloned()
        .zip((0u32..).map(Value::from))
        .collect();
    let merges: Vec<String> = gpt2::merge_lines(tokenizer, &texts).collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    let written = |path: &Path, value: &Value| {
        prepare(path, |out| {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        })
    };
    let config_path = path.with_file_name(CONFIG_FILE);
    let file = written(path, &file)?;
    let config = written(&config_path, &config(tokenizer))?;
    commit([(path, file), (&config_path, config)])
}

/// Which class reads the file, and the token that comes before and after each text.
fn config(tokenizer: &Tokenizer) -> Value {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        // Otherwise older versions take spaces out of decoded text.
        "clean_up_tokenization_spaces": false,
    });
    if tokenizer.token_id(END_OF_TEXT).is_some() {
        config["bos_token"] = END_OF_TEXT.into();
        config["eos_token"] = END_OF_TEXT.into();
    }
    config
}
