//! Entries and merges of any format, checked to be one tokenizer.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::super::{Merge, Tokenizer, TokenizerError, alphabet, index};

/// A token as a file has it.
pub(super) struct Entry {
    /// As it is written, for messages.
    pub(super) shown: String,
    pub(super) id: u32,
    /// Its bytes, unless it can only be a special token.
    pub(super) learnt: Option<Vec<u8>>,
    /// Its bytes if it is a special token.
    pub(super) special: Vec<u8>,
}

impl Entry {
    /// A token in GPT-2's alphabet, in which special tokens stand as they are.
    pub(super) fn in_alphabet(shown: String, id: u32) -> Self {
        Self {
            learnt: alphabet::bytes_from_text(&shown),
            special: shown.clone().into_bytes(),
            shown,
            id,
        }
    }
}

/// The entries of a file by id, checked to have ids without gaps and all bytes.
pub(super) struct Vocabulary {
    path: PathBuf,
    entries: Vec<Entry>,
    /// Ids of the tokens that may be learnt ones.
    ids: FxHashMap<Vec<u8>, u32>,
    byte_ids: FxHashSet<u32>,
}

impl Vocabulary {
    /// Takes the entries in the order of the file at `path`.
    pub(super) fn new(path: PathBuf, entries: Vec<Entry>) -> Result<Self, TokenizerError> {
        let mut by_id: Vec<Option<Entry>> = entries.iter().map(|_| None).collect();
        for entry in entries {
            let n_entries = by_id.len();
            let id = entry.id;
            let Some(place) = by_id.get_mut(index(id)) else {
                let problem = format!(
                    "has id {id}, which leaves a gap: {n_entries} tokens have ids 0 to {}",
                    n_entries - 1
                );
                return Err(problem_of(&path, &entry.shown, problem));
            };
            if let Some(other) = place {
                let problem = format!("has id {id}, as {:?} has", other.shown);
                return Err(problem_of(&path, &entry.shown, problem));
            }
            *place = Some(entry);
        }
        // As many places as entries, and none taken twice.
        let entries: Vec<Entry> = by_id.into_iter().flatten().collect();
        let mut ids = FxHashMap::default();
        for entry in &entries {
            if let Some(bytes) = &entry.learnt {
                ids.entry(bytes.clone()).or_insert(entry.id);
            }
        }
        let mut byte_ids = FxHashSet::default();
        for byte in alphabet::byte_order() {
            match ids.get(&[byte][..]) {
                Some(&id) => byte_ids.insert(id),
                None => {
                    let shown = alphabet::text_from_bytes(&[byte]);
                    let problem = format!("is missing, the token of byte {byte}");
                    return Err(problem_of(&path, &shown, problem));
                }
            };
        }
        Ok(Self {
            path,
            entries,
            ids,
            byte_ids,
        })
    }

    /// Puts the tokenizer together. Tokens that are neither a byte nor the product of a merge are
    /// special tokens.
    pub(super) fn tokenizer(self, merges: Merges) -> Result<Tokenizer, TokenizerError> {
        let products: FxHashSet<u32> = merges.list.iter().map(|merge| merge.product).collect();
        let mut tokens = Vec::with_capacity(self.entries.len());
        let mut specials = Vec::new();
        let mut seen = FxHashSet::default();
        for (id, entry) in (0..).zip(&self.entries) {
            let problem = |problem: &str| problem_of(&self.path, &entry.shown, problem.to_owned());
            let is_learnt = self.byte_ids.contains(&id) || products.contains(&id);
            let bytes = match &entry.learnt {
                Some(bytes) if is_learnt => bytes,
                _ => {
                    let text = String::from_utf8(entry.special.clone());
                    let text = text.map_err(|_| {
                        problem("is neither a byte nor made by a merge, and no UTF-8 for a special token")
                    })?;
                    specials.push((id, text));
                    &entry.special
                }
            };
            if bytes.is_empty() {
                return Err(problem("is an empty token"));
            }
            if !seen.insert(bytes) {
                return Err(problem("stands for the same bytes as another token"));
            }
            tokens.push(bytes[..].into());
        }
        Ok(Tokenizer::from_parts(tokens, merges.list, &specials))
    }
}

/// The merges of a file, checked one after another.
#[derive(Default)]
pub(super) struct Merges {
    list: Vec<Merge>,
    known: FxHashSet<u32>,
    pairs: FxHashSet<(u32, u32)>,
}

impl Merges {
    /// Adds the merge of two tokens.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        left: &[u8],
        right: &[u8],
    ) -> Result<(), String> {
        let part = |bytes: &[u8]| {
            let id = vocabulary.ids.get(bytes).copied();
            id.filter(|id| vocabulary.byte_ids.contains(id) || self.known.contains(id))
                .ok_or_else(|| {
                    let shown = alphabet::text_from_bytes(bytes);
                    format!("joins {shown:?}, which is neither a byte nor made by an earlier merge")
                })
        };
        let (left_id, right_id) = (part(left)?, part(right)?);
        let joined = [left, right].concat();
        let product = *vocabulary.ids.get(&joined).ok_or_else(|| {
            let shown = alphabet::text_from_bytes(&joined);
            format!("makes {shown:?}, which is not in the vocabulary")
        })?;
        if !self.pairs.insert((left_id, right_id)) {
            return Err("is there twice".to_owned());
        }
        self.known.insert(product);
        self.list.push(Merge {
            left: left_id,
            right: right_id,
            product,
        });
        Ok(())
    }
}

/// The entries of a JSON object in the order of the file, duplicates included.
pub(super) struct Entries<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tokens and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<V> Entries<V> {
    /// Refuses a key that is there twice.
    pub(super) fn distinct(
        self,
        path: &std::path::Path,
    ) -> Result<Vec<(String, V)>, TokenizerError> {
        let mut seen = FxHashSet::default();
        match self.0.iter().find(|(key, _)| !seen.insert(key)) {
            Some((key, _)) => Err(problem_of(path, key, "is there twice".to_owned())),
            None => Ok(self.0),
        }
    }
}

pub(super) fn problem_of(path: &std::path::Path, shown: &str, problem: String) -> TokenizerError {
    TokenizerError::Entry {
        path: path.to_owned(),
        entry: format!("token {shown:?}"),
        problem,
    }
}
