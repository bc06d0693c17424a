//! Entries of any format, checked to be one tokenizer with their merges.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::super::parts::Parts;
use super::super::rules::{Rules, SpecialToken};
use super::super::{Tokenizer, TokenizerError, alphabet, index};
use super::merges::Merges;

/// Ids without a token that a file may have beyond as many as it has tokens.
const MOST_GAPS: usize = 1 << 16;

/// A token as a file has it.
pub(in super::super) struct Entry {
    /// As it is written, for messages.
    pub(in super::super) shown: String,
    pub(in super::super) id: u32,
    /// Its bytes, unless it can only be a special token.
    pub(in super::super) learnt: Option<Vec<u8>>,
    /// Its bytes if it is a special token.
    pub(in super::super) special: Vec<u8>,
    pub(in super::super) kind: Kind,
}

/// What a file says that a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// Nothing: what is neither a byte nor the product of a merge is a special token.
    Untold,
    /// Text.
    Normal,
    /// A special token.
    Special {
        is_control: bool,
        is_normalized: bool,
    },
    /// No token, though it has a name.
    Unused,
}

impl Entry {
    /// A token in GPT-2's alphabet, in which special tokens stand as they are.
    pub(in super::super) fn in_alphabet(shown: String, id: u32) -> Self {
        Self {
            learnt: alphabet::bytes_from_text(&shown),
            special: shown.clone().into_bytes(),
            shown,
            id,
            kind: Kind::Untold,
        }
    }
}

/// The entries of a file by id.
///
/// Where a file tells kinds, it may be that of any model: ids may have no token, and bytes may
/// have none.
pub(in super::super) struct Vocabulary {
    path: PathBuf,
    entries: Vec<Entry>,
    /// Ids of the tokens that may be learnt ones.
    ids: FxHashMap<Vec<u8>, u32>,
    byte_ids: FxHashSet<u32>,
    tells_kinds: bool,
}

impl Vocabulary {
    /// Takes the entries in the order of the file at `path`, which tells no kinds: they have to
    /// have ids without gaps, and all bytes.
    pub(super) fn new(path: PathBuf, entries: Vec<Entry>) -> Result<Self, TokenizerError> {
        let n_ids = entries.len();
        Self::sorted(path, entries, n_ids, false)
    }

    /// Takes the entries in the order of the file at `path`, which tells what each one is. Ids
    /// that it leaves out are unused.
    pub(in super::super) fn of_kinds(
        path: PathBuf,
        entries: Vec<Entry>,
    ) -> Result<Self, TokenizerError> {
        let most = entries.len().saturating_mul(2).saturating_add(MOST_GAPS);
        let last = entries.iter().map(|entry| entry.id).max();
        let n_ids = last.map_or(0, |last| index(last).saturating_add(1));
        Self::sorted(path, entries, n_ids.min(most), true)
    }

    fn sorted(
        path: PathBuf,
        entries: Vec<Entry>,
        n_ids: usize,
        tells_kinds: bool,
    ) -> Result<Self, TokenizerError> {
        let n_entries = entries.len();
        let mut by_id: Vec<Option<Entry>> = (0..n_ids).map(|_| None).collect();
        for entry in entries {
            let id = entry.id;
            let Some(place) = by_id.get_mut(index(id)) else {
                let problem = format!(
                    "has id {id}, which leaves a gap: {n_entries} tokens have ids 0 to {}",
                    n_ids - 1
                );
                return Err(problem_of(&path, &entry.shown, problem));
            };
            if let Some(other) = place {
                let problem = format!("has id {id}, as {:?} has", other.shown);
                return Err(problem_of(&path, &entry.shown, problem));
            }
            *place = Some(entry);
        }
        // Without kinds there are as many places as entries, and none is taken twice. The names
        // of other places are those that llama.cpp's converter gives.
        let unnamed = |id: u32| Entry {
            kind: Kind::Unused,
            learnt: None,
            ..Entry::in_alphabet(format!("[PAD{id}]"), id)
        };
        let by_id = (0..).zip(by_id);
        let entries: Vec<Entry> = by_id
            .map(|(id, entry)| entry.unwrap_or_else(|| unnamed(id)))
            .collect();
        let mut ids = FxHashMap::default();
        for entry in &entries {
            if let Some(bytes) = &entry.learnt {
                ids.entry(bytes.clone()).or_insert(entry.id);
            }
        }
        let mut byte_ids = FxHashSet::default();
        for byte in alphabet::byte_order() {
            match ids.get(&[byte][..]) {
                Some(&id) => {
                    byte_ids.insert(id);
                }
                None if tells_kinds => {}
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
            tells_kinds,
        })
    }

    /// Number of ids.
    pub(in super::super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether each byte has a token.
    pub(super) fn has_all_bytes(&self) -> bool {
        self.byte_ids.len() == 256
    }

    /// The token of bytes that merges may join or make.
    pub(super) fn learnt_id(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes).copied()
    }

    pub(super) fn is_byte(&self, id: u32) -> bool {
        self.byte_ids.contains(&id)
    }

    /// Whether merges may join any tokens, and not just those that merges before them make.
    pub(super) fn joins_any(&self) -> bool {
        self.tells_kinds
    }

    /// Puts the tokenizer together.
    pub(in super::super) fn tokenizer(
        self,
        merges: Merges,
        rules: Rules,
    ) -> Result<Tokenizer, TokenizerError> {
        let merges = merges.into_list();
        let products: FxHashSet<u32> = merges.iter().map(|merge| merge.product).collect();
        let mut parts = Parts {
            merges,
            rules,
            ..Parts::default()
        };
        // No two tokens have the same bytes, except that a special one may have another one's.
        let mut seen = [FxHashSet::default(), FxHashSet::default()];
        for (id, entry) in (0..).zip(&self.entries) {
            let problem = |problem: &str| problem_of(&self.path, &entry.shown, problem.to_owned());
            let is_learnt = self.byte_ids.contains(&id) || products.contains(&id);
            let bytes = match (entry.kind, &entry.learnt) {
                (Kind::Unused, _) => &[][..],
                (Kind::Untold, Some(learnt)) if is_learnt => learnt,
                (Kind::Normal, learnt) => learnt.as_ref().unwrap_or(&entry.special),
                (Kind::Special { .. }, Some(learnt)) if is_learnt && *learnt != entry.special => {
                    return Err(problem(
                        "is a special token that stands for other bytes than merges make",
                    ));
                }
                (Kind::Untold | Kind::Special { .. }, _) => {
                    let text = String::from_utf8(entry.special.clone()).map_err(|_| {
                        problem("is neither a byte nor made by a merge, and no UTF-8 for a special token")
                    })?;
                    parts.specials.push(special_token(id, text, entry.kind));
                    &entry.special
                }
            };
            let is_special = parts
                .specials
                .last()
                .is_some_and(|special| special.id == id);
            if entry.kind == Kind::Unused || (entry.kind == Kind::Normal && bytes.is_empty()) {
                parts.unused.push((id, entry.shown.clone()));
            } else if bytes.is_empty() {
                return Err(problem("is an empty token"));
            } else if !seen[usize::from(is_special && self.tells_kinds)].insert(bytes) {
                return Err(problem("stands for the same bytes as another token"));
            }
            parts.tokens.push(bytes.into());
        }
        Ok(Tokenizer::from_parts(parts))
    }
}

fn special_token(id: u32, text: String, kind: Kind) -> SpecialToken {
    let mut token = SpecialToken::control(id, text);
    if let Kind::Special {
        is_control,
        is_normalized,
    } = kind
    {
        token.is_control = is_control;
        token.is_normalized = is_normalized;
    }
    token
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
