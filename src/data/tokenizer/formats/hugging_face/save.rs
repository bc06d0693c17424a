//! Writes `tokenizer.json`, and what Hugging Face's `AutoTokenizer` wants to know beside it.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::super::{Split, TokenRoles, Tokenizer, TokenizerError, index};
use super::super::vocabulary::problem_of;
use super::super::{commit, gpt2, prepare};
use super::CONFIG_FILE;
use super::rules::{LLAMA3_PATTERN, QWEN2_PATTERN};

/// Writes the file at `path`, and the other one beside it.
pub(in super::super) fn save(
    tokenizer: &Tokenizer,
    roles: &TokenRoles,
    path: &Path,
) -> Result<(), TokenizerError> {
    let texts = gpt2::texts(tokenizer);
    let mut vocab = Map::new();
    // Nothing makes or matches an unused id, and a vocabulary may have gaps.
    let unused = tokenizer.unused_tokens();
    let is_unused = |id: u32| unused.binary_search_by_key(&id, |(id, _)| *id).is_ok();
    for (id, text) in (0u32..).zip(&texts).filter(|(id, _)| !is_unused(*id)) {
        if let Some(other) = vocab.insert(text.clone(), id.into()) {
            let problem =
                format!("is written as token {other} is, which tokenizer.json cannot say");
            return Err(problem_of(path, text, problem));
        }
    }
    let added = tokenizer.special_tokens().iter().map(|token| {
        json!({
            "id": token.id, "content": texts[index(token.id)], "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": token.is_normalized,
            "special": token.is_control,
        })
    });
    let added: Vec<Value> = added.collect();
    let merges: Vec<String> = gpt2::merge_lines(tokenizer, &texts).collect();
    let normalizer = tokenizer.normalizes().then(|| json!({"type": "NFC"}));
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer(tokenizer.split()),
        "post_processor": post_processor(roles, &texts), "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": tokenizer.ignores_merges(), "vocab": vocab, "merges": merges,
        },
    });
    let written = |path: &Path, value: &Value| {
        prepare(path, |out| {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        })
    };
    let config_path = path.with_file_name(CONFIG_FILE);
    let config = config(roles, &texts);
    let file = written(path, &file)?;
    let config = written(&config_path, &config)?;
    commit([(path, file), (&config_path, config)])
}

fn byte_level(uses_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": uses_regex,
    })
}

fn pre_tokenizer(split: Split) -> Value {
    let by_pattern = |pattern: &str| {
        let split = json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
            "invert": false,
        });
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    match split {
        Split::Gpt2 => byte_level(true),
        Split::Smollm => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
        }
        Split::Llama3 => by_pattern(LLAMA3_PATTERN),
        Split::Qwen2 => by_pattern(QWEN2_PATTERN),
    }
}

/// What puts the first token before a text, where that is asked for.
fn post_processor(roles: &TokenRoles, texts: &[String]) -> Value {
    let Some(bos) = roles.bos.filter(|_| roles.add_bos == Some(true)) else {
        return Value::Null;
    };
    let text = &texts[index(bos)];
    let special = |type_id: u32| json!({"SpecialToken": {"id": text, "type_id": type_id}});
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": {text: {"id": text, "ids": [bos], "tokens": [text]}},
    })
}

/// Which class reads the file, the roles of tokens, and how chats are written.
fn config(roles: &TokenRoles, texts: &[String]) -> Value {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        // Otherwise older versions take spaces out of decoded text.
        "clean_up_tokenization_spaces": false,
    });
    for (key, role) in [
        ("bos_token", roles.bos),
        ("eos_token", roles.eos.first().copied()),
        ("pad_token", roles.pad),
        ("unk_token", roles.unknown),
    ] {
        if let Some(id) = role {
            config[key] = texts[index(id)].clone().into();
        }
    }
    if let Some(adds) = roles.add_bos {
        config["add_bos_token"] = adds.into();
    }
    if let Some(template) = &roles.chat_template {
        config["chat_template"] = template.clone().into();
    }
    config
}
