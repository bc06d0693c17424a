//! A vocabulary and its merges that were named one by one, or that a program holds in memory.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use super::super::rules::Rules;
use super::super::{Tokenizer, TokenizerError, index};
use super::merges::Merges;
use super::vocabulary::{Entry, Kind, Vocabulary};
use super::{cs336, gpt2};

/// Stands for the path in messages about what a program gave.
const IN_MEMORY: &str = "vocab";

impl Tokenizer {
    /// Reads a vocabulary and its merges from two files of any name: pickled pairs of bytes where the name of
    /// the merges ends in `.pkl`, and GPT-2's text elsewhere. Those of `special_tokens` that the vocabulary
    /// does not have get the ids behind it.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::load_with`].
    pub fn load_pair(
        vocab: &Path,
        merges: &Path,
        special_tokens: &[String],
    ) -> Result<Self, TokenizerError> {
        let is_pickled = merges.extension().is_some_and(|end| end == "pkl");
        let entries = match is_pickled {
            true => cs336::entries(vocab)?,
            false => gpt2::entries(vocab)?,
        };
        let vocabulary = Vocabulary::new(vocab.to_owned(), with_specials(entries, special_tokens))?;
        let merges = match is_pickled {
            true => cs336::read_merges(merges, &vocabulary)?,
            false => gpt2::read_merges(merges, &vocabulary)?,
        };
        vocabulary.tokenizer(merges, Rules::default())
    }

    /// A tokenizer of tokens with their ids, which have no gaps, and merges in the order in which they were
    /// learnt. Tokens that are neither a byte nor the product of a merge are special; those of `special_tokens`
    /// that the vocabulary does not have get the ids behind it.
    ///
    /// # Errors
    ///
    /// If it is not one tokenizer: the error names the first token or merge at fault.
    pub fn from_vocabulary(
        tokens: Vec<(u32, Vec<u8>)>,
        merges: &[(Vec<u8>, Vec<u8>)],
        special_tokens: &[String],
    ) -> Result<Self, TokenizerError> {
        let entry = |(id, bytes): (u32, Vec<u8>)| Entry {
            shown: String::from_utf8_lossy(&bytes).into_owned(),
            id,
            learnt: Some(bytes.clone()),
            special: bytes,
            kind: Kind::Untold,
        };
        let entries = tokens.into_iter().map(entry).collect();
        let path = PathBuf::from(IN_MEMORY);
        let vocabulary = Vocabulary::new(path, with_specials(entries, special_tokens))?;
        let mut list = Merges::default();
        for (rank, (left, right)) in merges.iter().enumerate() {
            let pushed = list.push(&vocabulary, left, right);
            pushed.map_err(|problem| TokenizerError::Entry {
                path: PathBuf::from("merges"),
                entry: format!("merge {rank}"),
                problem,
            })?;
        }
        vocabulary.tokenizer(list, Rules::default())
    }

    /// The bytes that each merge joins, in the order in which they were learnt.
    pub fn merges(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let bytes = |id: u32| &self.tokens[index(id)][..];
        let merges = self.merges.iter();
        merges.map(move |merge| (bytes(merge.left), bytes(merge.right)))
    }
}

/// The entries, and behind them the special tokens that are not among them.
fn with_specials(mut entries: Vec<Entry>, special_tokens: &[String]) -> Vec<Entry> {
    let mut known: FxHashSet<Vec<u8>> = entries.iter().map(|e| e.special.clone()).collect();
    for token in special_tokens {
        if known.insert(token.as_bytes().to_vec()) {
            let id = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            let bytes = token.as_bytes().to_vec();
            entries.push(Entry {
                shown: token.clone(),
                id,
                learnt: Some(bytes.clone()),
                special: bytes,
                kind: Kind::Untold,
            });
        }
    }
    entries
}
