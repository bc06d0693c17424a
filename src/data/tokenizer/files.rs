//! Reads and writes `vocab.json` and `merges.txt` in GPT-2's format.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;

use super::{Merge, Tokenizer, TokenizerError, alphabet, index};

const VOCAB_FILE: &str = "vocab.json";
const MERGES_FILE: &str = "merges.txt";

/// See [`Tokenizer::load`].
pub(super) fn load(dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let vocab = Vocabulary::read(dir.join(VOCAB_FILE))?;
    let merges = read_merges(&dir.join(MERGES_FILE), &vocab)?;
    let special_ids = vocab.special_ids(&merges);

    let mut tokens = Vec::with_capacity(vocab.texts.len());
    let mut specials = Vec::new();
    let mut seen = FxHashSet::default();
    for (id, text) in (0..).zip(&vocab.texts) {
        let learnt = if special_ids.contains(&id) {
            None
        } else {
            alphabet::bytes_from_text(text)
        };
        let bytes = learnt.unwrap_or_else(|| {
            specials.push((id, text.clone()));
            text.clone().into_bytes()
        });
        if bytes.is_empty() {
            return Err(vocab.problem(text, "is an empty token".to_owned()));
        }
        if !seen.insert(bytes.clone()) {
            return Err(vocab.problem(
                text,
                "stands for the same bytes as another token".to_owned(),
            ));
        }
        tokens.push(bytes.into());
    }
    Ok(Tokenizer::from_parts(tokens, merges, &specials))
}

/// See [`Tokenizer::save`].
pub(super) fn save(tokenizer: &Tokenizer, dir: &Path) -> Result<(), TokenizerError> {
    std::fs::create_dir_all(dir).map_err(|cause| write_error(dir, cause))?;
    let mut texts: Vec<String> = tokenizer
        .tokens
        .iter()
        .map(|bytes| alphabet::text_from_bytes(bytes))
        .collect();
    for &id in tokenizer.special_ids() {
        let special = &tokenizer.tokens[index(id)];
        texts[index(id)] = String::from_utf8_lossy(special).into_owned();
    }
    let vocab = prepare(&dir.join(VOCAB_FILE), |out| {
        serde_json::Serializer::pretty(&mut *out).collect_map(texts.iter().zip(0u32..))?;
        writeln!(out)
    })?;
    let merges = prepare(&dir.join(MERGES_FILE), |out| {
        tokenizer.merges.iter().try_for_each(|merge| {
            writeln!(
                out,
                "{} {}",
                texts[index(merge.left)],
                texts[index(merge.right)]
            )
        })
    })?;
    // Both are written in full before the first one takes its name.
    vocab
        .commit()
        .map_err(|cause| write_error(&dir.join(VOCAB_FILE), cause))?;
    merges
        .commit()
        .map_err(|cause| write_error(&dir.join(MERGES_FILE), cause))
}

fn prepare(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<AtomicWriteFile>) -> io::Result<()>,
) -> Result<AtomicWriteFile, TokenizerError> {
    let written = || {
        let mut out = BufWriter::new(AtomicWriteFile::open(path)?);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)
    };
    written().map_err(|cause| write_error(path, cause))
}

fn write_error(path: &Path, cause: io::Error) -> TokenizerError {
    TokenizerError::Write {
        path: path.to_owned(),
        cause,
    }
}

fn read(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|cause| TokenizerError::Read {
        path: path.to_owned(),
        cause,
    })
}

/// The entries of `vocab.json`, checked to have ids without gaps and all bytes.
struct Vocabulary {
    path: PathBuf,
    /// Token strings by id.
    texts: Vec<String>,
    ids: FxHashMap<String, u32>,
    byte_ids: FxHashSet<u32>,
}

impl Vocabulary {
    fn read(path: PathBuf) -> Result<Self, TokenizerError> {
        let json = read(&path)?;
        let Entries(entries) = match serde_json::from_str(&json) {
            Ok(entries) => entries,
            Err(cause) => return Err(TokenizerError::Json { path, cause }),
        };
        let mut vocab = Self {
            path,
            texts: vec![String::new(); entries.len()],
            ids: FxHashMap::default(),
            byte_ids: FxHashSet::default(),
        };
        let mut taken = vec![false; entries.len()];
        for (text, id) in entries {
            if vocab.ids.insert(text.clone(), id).is_some() {
                return Err(vocab.problem(&text, "is there twice".to_owned()));
            }
            let Some(is_taken) = taken.get_mut(index(id)) else {
                let problem = format!(
                    "has id {id}, which leaves a gap: {} tokens have ids 0 to {}",
                    taken.len(),
                    taken.len() - 1
                );
                return Err(vocab.problem(&text, problem));
            };
            if *is_taken {
                let problem = format!("has id {id}, as {:?} has", vocab.texts[index(id)]);
                return Err(vocab.problem(&text, problem));
            }
            *is_taken = true;
            vocab.texts[index(id)] = text;
        }
        for byte in alphabet::byte_order() {
            let text = alphabet::text_from_bytes(&[byte]);
            match vocab.ids.get(&text) {
                Some(&id) => vocab.byte_ids.insert(id),
                None => {
                    return Err(
                        vocab.problem(&text, format!("is missing, the token of byte {byte}"))
                    );
                }
            };
        }
        Ok(vocab)
    }

    /// Tokens that are neither a byte nor a product, rising.
    fn special_ids(&self, merges: &[Merge]) -> FxHashSet<u32> {
        let products: FxHashSet<u32> = merges.iter().map(|merge| merge.product).collect();
        let ids = self.ids.values().copied();
        ids.filter(|id| !self.byte_ids.contains(id) && !products.contains(id))
            .collect()
    }

    fn problem(&self, text: &str, problem: String) -> TokenizerError {
        TokenizerError::Entry {
            path: self.path.clone(),
            entry: format!("token {text:?}"),
            problem,
        }
    }
}

/// One merge a line, its two parts with a space between; the first line may name a version.
fn read_merges(path: &Path, vocab: &Vocabulary) -> Result<Vec<Merge>, TokenizerError> {
    let text = read(path)?;
    let mut known = vocab.byte_ids.clone();
    let mut pairs = FxHashSet::default();
    let mut merges = Vec::new();
    for (line_idx, line) in text.lines().enumerate() {
        if line.is_empty() || (line_idx == 0 && line.starts_with("#version")) {
            continue;
        }
        let problem = |problem: String| TokenizerError::Entry {
            path: path.to_owned(),
            entry: format!("line {}, merge {line:?},", line_idx + 1),
            problem,
        };
        let parts: Vec<&str> = line.split(' ').collect();
        let &[left_text, right_text] = &parts[..] else {
            return Err(problem("is not two tokens with a space between".to_owned()));
        };
        let id_of = |text: &str| vocab.ids.get(text).copied();
        let part = |text: &str| {
            id_of(text).filter(|id| known.contains(id)).ok_or_else(|| {
                problem(format!(
                    "joins {text:?}, which is neither a byte nor made by an earlier merge"
                ))
            })
        };
        let (left, right) = (part(left_text)?, part(right_text)?);
        let product = id_of(&[left_text, right_text].concat()).ok_or_else(|| {
            problem(format!(
                "makes {:?}, which is not in the vocabulary",
                [left_text, right_text].concat()
            ))
        })?;
        if !pairs.insert((left, right)) {
            return Err(problem("is there twice".to_owned()));
        }
        known.insert(product);
        merges.push(Merge {
            left,
            right,
            product,
        });
    }
    Ok(merges)
}

/// A JSON object's entries in the order of the file, duplicates included.
struct Entries(Vec<(String, u32)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of token strings and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}
