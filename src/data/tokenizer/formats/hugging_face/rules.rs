//! The parts of a `tokenizer.json` that say how text is cut, as rules that give the same ids, or
//! the reason why there are none.

use serde_json::{Value, json};

use super::super::super::Split;
use super::super::super::rules::Rules;
use super::File;

/// Patterns in the wild, by what they match; the spellings of one split match alike.
const PATTERNS: &[(Split, &str)] = &[
    (
        Split::Gpt2,
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    (
        Split::Gpt2,
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    (
        Split::Gpt2,
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
    (Split::Llama3, LLAMA3_PATTERN),
    (Split::Qwen2, QWEN2_PATTERN),
];

pub(super) const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Refuses whatever would give other ids than are computed here.
pub(super) fn read(file: &File) -> Result<Rules, String> {
    let part = |name: &str| file.rest.get(name).unwrap_or(&Value::Null);
    let model = &file.model.rest;
    for key in [
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "dropout",
        "byte_fallback",
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
    for step in steps(part("decoder"), "decoders") {
        if step["type"] != "ByteLevel" {
            return Err(format!("a decoder of type {}", step["type"]));
        }
    }
    let normalizers = steps(part("normalizer"), "normalizers");
    if let Some(other) = normalizers.iter().find(|step| step["type"] != "NFC") {
        return Err(format!("a normalizer of type {}", other["type"]));
    }
    let ignores_merges = match model.get("ignore_merges").unwrap_or(&Value::Null) {
        Value::Null => false,
        Value::Bool(ignores) => *ignores,
        other => return Err(format!("a model with ignore_merges = {other}")),
    };
    Ok(Rules {
        split: split(part("pre_tokenizer"))?,
        normalizes: !normalizers.is_empty(),
        ignores_merges,
    })
}

/// The steps of a part that is none, one, or a sequence of them.
fn steps<'p>(part: &'p Value, name: &str) -> Vec<&'p Value> {
    match &part[name] {
        _ if part.is_null() => Vec::new(),
        Value::Array(steps) if part["type"] == "Sequence" => steps.iter().collect(),
        _ => vec![part],
    }
}

/// The split that a `pre_tokenizer` describes.
fn split(splitter: &Value) -> Result<Split, String> {
    let is_byte_level = |step: &Value, uses_regex: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] == false
            && step["use_regex"].as_bool().unwrap_or(true) == uses_regex
    };
    let by_pattern = |step: &Value| {
        let is_isolating =
            step["type"] == "Split" && step["behavior"] == "Isolated" && step["invert"] == false;
        let pattern = step["pattern"]["Regex"].as_str().filter(|_| is_isolating)?;
        let known = PATTERNS.iter().find(|(_, spelling)| *spelling == pattern)?;
        Some(known.0)
    };
    let parts_digits = |step: &Value| step["type"] == "Digits" && step["individual_digits"] == true;
    let found = match steps(splitter, "pretokenizers")[..] {
        [step] if is_byte_level(step, true) => Some(Split::Gpt2),
        [digits, step] if parts_digits(digits) && is_byte_level(step, true) => Some(Split::Smollm),
        [split, step] if is_byte_level(step, false) => by_pattern(split),
        _ => None,
    };
    found.ok_or_else(|| {
        format!(
            "the pre_tokenizer {splitter}, which does not part text as GPT-2, SmolLM, Llama 3 or \
             Qwen2 do"
        )
    })
}
