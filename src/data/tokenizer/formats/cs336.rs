//! The pair of files that CS336's first assignment asks for: `vocab.json`, a map between ids and
//! bytes, and `merges.pkl`, a pickled list of pairs of bytes.
//!
//! JSON has no bytes, so the map is found in several spellings: a token is written in hexadecimal,
//! as a list of numbers, or in GPT-2's alphabet, and stands on either side of its id.

use std::path::Path;

use rustc_hash::FxHashSet;
use serde::ser::Serializer;
use serde_json::Value as Json;
use serde_pickle::{DeOptions, SerOptions, Value as Pickle};

use super::super::rules::Rules;
use super::super::{Tokenizer, TokenizerError, index};
use super::merges::Merges;
use super::vocabulary::{Entries, Entry, Kind, Vocabulary, problem_of};
use super::{PICKLED_MERGES_FILE, VOCAB_FILE, commit, prepare, read, read_error};

/// Reads both files of the folder `dir`.
pub(super) fn load(dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let path = dir.join(VOCAB_FILE);
    let entries = entries(&path)?;
    let vocabulary = Vocabulary::new(path, entries)?;
    let merges = read_merges(&dir.join(PICKLED_MERGES_FILE), &vocabulary)?;
    vocabulary.tokenizer(merges, Rules::default())
}

/// The tokens of the map in the file at `path`.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, TokenizerError> {
    let json = read(path)?;
    let entries: Entries<Json> =
        serde_json::from_str(&json).map_err(|cause| TokenizerError::Json {
            path: path.to_owned(),
            cause,
        })?;
    read_entries(path, entries.distinct(path)?)
}

/// Writes both files into the folder `dir`, tokens in hexadecimal.
pub(super) fn save(tokenizer: &Tokenizer, dir: &Path) -> Result<(), TokenizerError> {
    let (vocab_path, merges_path) = (dir.join(VOCAB_FILE), dir.join(PICKLED_MERGES_FILE));
    let vocab = prepare(&vocab_path, |out| {
        let tokens = tokenizer.tokens.iter().map(|token| to_hex(token));
        let ids = (0..).map(|id: u32| id.to_string());
        Ok(serde_json::Serializer::pretty(&mut *out).collect_map(ids.zip(tokens))?)
    })?;
    let bytes = |id: u32| Pickle::Bytes(tokenizer.tokens[index(id)].to_vec());
    let pairs = tokenizer.merges.iter();
    let pairs = pairs.map(|merge| Pickle::Tuple(vec![bytes(merge.left), bytes(merge.right)]));
    let list = Pickle::List(pairs.collect());
    let merges = prepare(&merges_path, |out| {
        serde_pickle::value_to_writer(out, &list, SerOptions::new()).map_err(std::io::Error::other)
    })?;
    commit([(&vocab_path, vocab), (&merges_path, merges)])
}

/// One entry of the map, whichever way round.
enum Spelling {
    Text(String),
    Numbers(Vec<u8>),
}

/// The tokens of the map; all have to be written in one way.
fn read_entries(path: &Path, entries: Vec<(String, Json)>) -> Result<Vec<Entry>, TokenizerError> {
    let is_by_token = entries.first().is_some_and(|(_, value)| value.is_number());
    let mut spelt = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let problem = |problem: &str| problem_of(path, &key, problem.to_owned());
        let id_of = |number: Option<u64>| {
            let id = number.and_then(|number| u32::try_from(number).ok());
            id.ok_or_else(|| problem("has no id, which is a whole number below 4294967296"))
        };
        let (shown, id, spelling) = match value {
            Json::Number(id) if is_by_token => (
                key.clone(),
                id_of(id.as_u64())?,
                Spelling::Text(key.clone()),
            ),
            Json::String(text) if !is_by_token => {
                (text.clone(), id_of(key.parse().ok())?, Spelling::Text(text))
            }
            Json::Array(numbers) if !is_by_token => {
                let byte = |number: &Json| u8::try_from(number.as_u64()?).ok();
                let bytes: Option<Vec<u8>> = numbers.iter().map(byte).collect();
                let bytes = bytes.ok_or_else(|| problem("is no list of bytes from 0 to 255"))?;
                (
                    Json::from(numbers).to_string(),
                    id_of(key.parse().ok())?,
                    Spelling::Numbers(bytes),
                )
            }
            _ => return Err(problem("is written another way than the entries before it")),
        };
        spelt.push((shown, id, spelling));
    }
    let texts: FxHashSet<&str> = spelt
        .iter()
        .filter_map(|(_, _, spelling)| match spelling {
            Spelling::Text(text) => Some(&text[..]),
            Spelling::Numbers(_) => None,
        })
        .collect();
    let is_hex = (0..=255u8).all(|byte| {
        texts.contains(&format!("{byte:02x}")[..]) || texts.contains(&format!("{byte:02X}")[..])
    });
    let entries = spelt
        .into_iter()
        .map(|(shown, id, spelling)| match spelling {
            Spelling::Numbers(bytes) => Entry {
                shown,
                id,
                learnt: Some(bytes.clone()),
                special: bytes,
                kind: Kind::Untold,
            },
            Spelling::Text(text) if is_hex => {
                let bytes = from_hex(&text);
                let special = bytes.clone().unwrap_or_else(|| text.into_bytes());
                Entry {
                    shown,
                    id,
                    learnt: bytes,
                    special,
                    kind: Kind::Untold,
                }
            }
            Spelling::Text(text) => Entry::in_alphabet(text, id),
        });
    Ok(entries.collect())
}

/// The pickled pairs. The reader knows no global but those that Python itself writes for bytes,
/// and runs none.
pub(super) fn read_merges(path: &Path, vocabulary: &Vocabulary) -> Result<Merges, TokenizerError> {
    let bytes = std::fs::read(path).map_err(|cause| read_error(path, cause))?;
    let damaged = |problem: String| TokenizerError::Pickle {
        path: path.to_owned(),
        problem,
    };
    let value = serde_pickle::value_from_slice(&bytes, DeOptions::new())
        .map_err(|error| damaged(error.to_string()))?;
    let Pickle::List(pairs) = value else {
        return Err(damaged("it holds no list".to_owned()));
    };
    let mut merges = Merges::default();
    for (pair_idx, pair) in pairs.into_iter().enumerate() {
        let problem = |problem: String| TokenizerError::Entry {
            path: path.to_owned(),
            entry: format!("merge {pair_idx}"),
            problem,
        };
        let (Pickle::Tuple(parts) | Pickle::List(parts)) = pair else {
            return Err(problem("is no pair".to_owned()));
        };
        let [Pickle::Bytes(left), Pickle::Bytes(right)] = &parts[..] else {
            return Err(problem("is no pair of bytes".to_owned()));
        };
        merges.push(vocabulary, left, right).map_err(problem)?;
    }
    Ok(merges)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from pairs of digits, or `None` where the text is something else.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(c.to_digit(16)?).ok())
        .collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
