//! `vocab.json` and `merges.txt` in GPT-2's alphabet.

use std::io::Write;
use std::path::Path;

use serde::ser::Serializer;

use super::super::rules::Rules;
use super::super::{Tokenizer, TokenizerError, alphabet, index};
use super::merges::Merges;
use super::vocabulary::{Entries, Entry, Vocabulary};
use super::{MERGES_FILE, VOCAB_FILE, commit, prepare, read};

/// Reads both files of the folder `dir`.
pub(super) fn load(dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let path = dir.join(VOCAB_FILE);
    let entries = entries(&path)?;
    let vocabulary = Vocabulary::new(path, entries)?;
    let merges = read_merges(&dir.join(MERGES_FILE), &vocabulary)?;
    vocabulary.tokenizer(merges, Rules::default())
}

/// The tokens of the vocabulary in the file at `path`.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, TokenizerError> {
    let entries = read_entries(path)?.into_iter();
    Ok(entries
        .map(|(text, id)| Entry::in_alphabet(text, id))
        .collect())
}

fn read_entries(path: &Path) -> Result<Vec<(String, u32)>, TokenizerError> {
    let json = read(path)?;
    let entries: Entries<u32> =
        serde_json::from_str(&json).map_err(|cause| TokenizerError::Json {
            path: path.to_owned(),
            cause,
        })?;
    entries.distinct(path)
}

/// Writes both files into the folder `dir`.
pub(super) fn save(tokenizer: &Tokenizer, dir: &Path) -> Result<(), TokenizerError> {
    let texts = texts(tokenizer);
    let (vocab_path, merges_path) = (dir.join(VOCAB_FILE), dir.join(MERGES_FILE));
    let vocab = prepare(&vocab_path, |out| {
        serde_json::Serializer::pretty(&mut *out).collect_map(texts.iter().zip(0u32..))?;
        writeln!(out)
    })?;
    let merges = prepare(&merges_path, |out| {
        merge_lines(tokenizer, &texts).try_for_each(|line| writeln!(out, "{line}"))
    })?;
    commit([(&vocab_path, vocab), (&merges_path, merges)])
}

/// Whether both files of the folder `dir` say the same as another file, as far as they go: they
/// have no place for rules, and leave out special tokens that were added to a vocabulary.
pub(super) fn agrees(dir: &Path, tokenizer: &Tokenizer) -> Result<bool, TokenizerError> {
    let texts = texts(tokenizer);
    let path = dir.join(VOCAB_FILE);
    let entries = read_entries(&path)?.into_iter();
    let mut entries = entries.map(|(text, id)| texts.get(index(id)) == Some(&text));
    let merges = read(&dir.join(MERGES_FILE))?;
    let lines = merge_texts(&merges).map(|(_, line)| line);
    Ok(entries.all(|agrees| agrees) && lines.eq(merge_lines(tokenizer, &texts)))
}

/// The text of each token by id: special and unused ones as they are, the others in GPT-2's
/// alphabet.
pub(in super::super) fn texts(tokenizer: &Tokenizer) -> Vec<String> {
    let tokens = tokenizer.tokens.iter();
    let mut texts: Vec<String> = tokens
        .map(|bytes| alphabet::text_from_bytes(bytes))
        .collect();
    for &id in tokenizer.special_ids() {
        let special = &tokenizer.tokens[index(id)];
        texts[index(id)] = String::from_utf8_lossy(special).into_owned();
    }
    for (id, name) in tokenizer.unused_tokens() {
        texts[index(*id)].clone_from(name);
    }
    texts
}

/// Each merge as its two parts with a space between.
pub(in super::super) fn merge_lines(
    tokenizer: &Tokenizer,
    texts: &[String],
) -> impl Iterator<Item = String> {
    tokenizer
        .merges
        .iter()
        .map(|merge| format!("{} {}", texts[index(merge.left)], texts[index(merge.right)]))
}

/// The lines of a file of merges, by index: one merge a line, its two parts with a space between.
/// The first line may name a version.
fn merge_texts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_merge = |&(line_idx, line): &(usize, &str)| {
        !(line.is_empty() || (line_idx == 0 && line.starts_with("#version")))
    };
    text.lines().enumerate().filter(is_merge)
}

pub(super) fn read_merges(path: &Path, vocabulary: &Vocabulary) -> Result<Merges, TokenizerError> {
    let text = read(path)?;
    let mut merges = Merges::default();
    for (line_idx, line) in merge_texts(&text) {
        push_line(&mut merges, vocabulary, line).map_err(|problem| TokenizerError::Entry {
            path: path.to_owned(),
            entry: format!("line {}, merge {line:?},", line_idx + 1),
            problem,
        })?;
    }
    Ok(merges)
}

/// Adds the merge of one line.
///
/// # Errors
///
/// What is wrong with it.
pub(in super::super) fn push_line(
    merges: &mut Merges,
    vocabulary: &Vocabulary,
    line: &str,
) -> Result<(), String> {
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        [left, right] => push_texts(merges, vocabulary, left, right),
        _ => Err("is not two tokens with a space between".to_owned()),
    }
}

/// Adds the merge of two tokens in GPT-2's alphabet.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn push_texts(
    merges: &mut Merges,
    vocabulary: &Vocabulary,
    left: &str,
    right: &str,
) -> Result<(), String> {
    let bytes = |text: &str| {
        alphabet::bytes_from_text(text)
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| format!("joins {text:?}, which is no token of bytes"))
    };
    merges.push(vocabulary, &bytes(left)?, &bytes(right)?)
}
