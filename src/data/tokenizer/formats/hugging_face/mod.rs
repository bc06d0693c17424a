//! Hugging Face's `tokenizer.json`, where it describes byte-level BPE with pre-tokens of a
//! [`Split`](super::super::Split).

mod rules;
mod save;

use std::path::Path;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{Tokenizer, TokenizerError};
use super::merges::Merges;
use super::vocabulary::{Entries, Entry, Kind, Vocabulary, problem_of};
use super::{gpt2, read};

pub(super) use save::save;

/// Names the class, the roles of tokens and the chat template.
pub(in super::super) const CONFIG_FILE: &str = "tokenizer_config.json";

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
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

impl AddedToken {
    fn kind(&self) -> Kind {
        Kind::Special {
            is_control: self.special,
            is_normalized: self.normalized,
        }
    }
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
///
/// Its special tokens are the added ones, and what else no merge makes is decoded alone. Ids that
/// it leaves out are unused.
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
    let rules = rules::read(&file).map_err(unsupported)?;
    let entries = entries(path, file.model.vocab, &file.added_tokens)?;
    let vocabulary = Vocabulary::of_kinds(path.to_owned(), entries)?;
    let unknown = file.model.rest.get("unk_token");
    if let Some(token) = unknown.filter(|token| !token.is_null())
        && !vocabulary.has_all_bytes()
    {
        return Err(unsupported(format!(
            "{token} in place of bytes that have no token"
        )));
    }
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
    vocabulary.tokenizer(merges, rules)
}

/// The tokens of the vocabulary, and the added ones, which may be among them.
fn entries(
    path: &Path,
    vocab: Entries<u32>,
    added_tokens: &[AddedToken],
) -> Result<Vec<Entry>, TokenizerError> {
    let mut added: FxHashMap<u32, &AddedToken> = FxHashMap::default();
    for token in added_tokens {
        if let Some(other) = added.insert(token.id, token) {
            let problem = format!("has id {}, as {:?} has", token.id, other.content);
            return Err(problem_of(path, &token.content, problem));
        }
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (text, id) in vocab.distinct(path)? {
        let mut kind = Kind::Normal;
        if let Some(token) = added.remove(&id) {
            if token.content != text {
                let problem = format!("has id {id}, as added token {:?} has", token.content);
                return Err(problem_of(path, &text, problem));
            }
            kind = token.kind();
        }
        entries.push(Entry {
            kind,
            ..Entry::in_alphabet(text, id)
        });
    }
    let outside = added_tokens
        .iter()
        .filter(|token| added.contains_key(&token.id));
    entries.extend(outside.map(|token| Entry {
        learnt: None,
        kind: token.kind(),
        ..Entry::in_alphabet(token.content.clone(), token.id)
    }));
    Ok(entries)
}
