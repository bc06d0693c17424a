//! The files that tokenizers are kept in, here and by other programs.

mod cs336;
mod gpt2;
mod hugging_face;
mod merges;
mod pair;
mod tiktoken;
mod vocabulary;

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use super::{Split, TokenRoles, Tokenizer, TokenizerError};
use crate::files::{self, WholeFile};

/// What a tokenizer is put together from, for those that lie in other files than these.
pub(super) use gpt2::{merge_lines, push_line, texts};
pub(super) use hugging_face::CONFIG_FILE;
pub(super) use merges::Merges;
pub(super) use vocabulary::{Entry, Kind, Vocabulary};

const VOCAB_FILE: &str = "vocab.json";
const MERGES_FILE: &str = "merges.txt";
const PICKLED_MERGES_FILE: &str = "merges.pkl";
pub(super) const HUGGING_FACE_FILE: &str = "tokenizer.json";
/// A chat template on its own, which comes before that of [`CONFIG_FILE`].
pub(super) const TEMPLATE_FILE: &str = "chat_template.jinja";
/// How a model is sampled, where all tokens that end a text are listed.
pub(super) const GENERATION_FILE: &str = "generation_config.json";
const TIKTOKEN_FILE: &str = "tokenizer.tiktoken";
const SENTENCE_PIECE_FILE: &str = "tokenizer.model";
const TIKTOKEN_END: &str = "tiktoken";

/// How a tokenizer lies in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `vocab.json` and `merges.txt` in GPT-2's alphabet of printable characters.
    Gpt2,
    /// `vocab.json` of ids and bytes, and `merges.pkl`, a pickled list of pairs of bytes.
    Cs336,
    /// Hugging Face's `tokenizer.json`.
    HuggingFace,
    /// A file of base64 and rank, whose name ends in `.tiktoken`.
    Tiktoken,
}

impl Format {
    /// The files of this format, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "vocab.json and merges.txt",
            Self::Cs336 => "vocab.json and merges.pkl",
            Self::HuggingFace => "tokenizer.json",
            Self::Tiktoken => "a .tiktoken file",
        }
    }
}

/// Files of one format that were found.
struct Found {
    format: Format,
    /// The folder of the pair, or the file.
    path: PathBuf,
}

impl Found {
    fn load(&self, special_tokens: &[String]) -> Result<Tokenizer, TokenizerError> {
        match self.format {
            Format::Gpt2 => gpt2::load(&self.path),
            Format::Cs336 => cs336::load(&self.path),
            Format::HuggingFace => hugging_face::load(&self.path),
            Format::Tiktoken => tiktoken::load(&self.path, special_tokens),
        }
    }
}

/// See [`Tokenizer::load_with`].
pub(super) fn load(
    path: &Path,
    format: Option<Format>,
    special_tokens: &[String],
) -> Result<Tokenizer, TokenizerError> {
    let mut found = find(path)?;
    if let Some(format) = format {
        found.retain(|found| found.format == format);
    }
    // A tokenizer.json says more than the others, which may lie beside it.
    found.sort_by_key(|found| found.format != Format::HuggingFace);
    let Some((first, others)) = found.split_first() else {
        return Err(nothing_found(path, format));
    };
    let tokenizer = first.load(special_tokens)?;
    for other in others {
        let agrees = match (first.format, other.format) {
            (Format::HuggingFace, Format::Gpt2) => gpt2::agrees(&other.path, &tokenizer)?,
            _ => other.load(special_tokens)?.hash() == tokenizer.hash(),
        };
        if !agrees {
            return Err(TokenizerError::Ambiguous {
                path: path.to_owned(),
                first: other.format.name(),
                second: first.format.name(),
            });
        }
    }
    Ok(tokenizer)
}

fn nothing_found(path: &Path, format: Option<Format>) -> TokenizerError {
    let path = path.to_owned();
    if path.join(SENTENCE_PIECE_FILE).is_file() || path.ends_with(SENTENCE_PIECE_FILE) {
        let what = format!("a {SENTENCE_PIECE_FILE} of SentencePiece");
        return TokenizerError::Unsupported { path, what };
    }
    let wanted = format.map_or("a tokenizer", Format::name);
    TokenizerError::NotFound { path, wanted }
}

/// See [`Tokenizer::save_with`].
pub(super) fn save(
    tokenizer: &Tokenizer,
    roles: &TokenRoles,
    format: Format,
    dir: &Path,
) -> Result<(), TokenizerError> {
    if format == Format::HuggingFace {
        check_roles(tokenizer, roles)?;
    } else if let Some(what) = beyond_merges(tokenizer) {
        let format = format.name();
        return Err(TokenizerError::Inexpressible { format, what });
    }
    files::create_folder(dir).map_err(|cause| write_error(dir, cause))?;
    match format {
        Format::Gpt2 => gpt2::save(tokenizer, dir),
        Format::Cs336 => cs336::save(tokenizer, dir),
        Format::HuggingFace => hugging_face::save(tokenizer, roles, &dir.join(HUGGING_FACE_FILE)),
        Format::Tiktoken => tiktoken::save(tokenizer, &dir.join(TIKTOKEN_FILE)),
    }
}

/// Removes the files of a tokenizer of any format from `dir`, which may be missing.
pub(super) fn remove(dir: &Path) -> Result<(), TokenizerError> {
    for name in [
        VOCAB_FILE,
        MERGES_FILE,
        PICKLED_MERGES_FILE,
        HUGGING_FACE_FILE,
        CONFIG_FILE,
        TIKTOKEN_FILE,
        TEMPLATE_FILE,
        GENERATION_FILE,
    ] {
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(write_error(&path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses roles of ids that are no tokens.
pub(super) fn check_roles(tokenizer: &Tokenizer, roles: &TokenRoles) -> Result<(), TokenizerError> {
    let is_token = |id: u32| {
        tokenizer
            .token_bytes(id)
            .is_some_and(|bytes| !bytes.is_empty())
    };
    match roles.ids().find(|&(_, id)| !is_token(id)) {
        Some((role, id)) => Err(TokenizerError::Role { role, id }),
        None => Ok(()),
    }
}

/// What of a tokenizer is lost where only tokens and merges are written, which have to be read
/// back as the same tokenizer.
fn beyond_merges(tokenizer: &Tokenizer) -> Option<String> {
    if tokenizer.split() != Split::Gpt2 {
        return Some(format!("text is cut as by {}", tokenizer.split().name()));
    }
    if tokenizer.normalizes() {
        return Some("text is normalised".to_owned());
    }
    if tokenizer.ignores_merges() {
        return Some("tokens are found without merges".to_owned());
    }
    if let Some((id, _)) = tokenizer.unused_tokens().first() {
        return Some(format!("id {id} is unused"));
    }
    if let Some(byte) = tokenizer.missing_bytes().first() {
        return Some(format!("byte {byte} has no token"));
    }
    if let Some(id) = tokenizer.specials().late_ids().first() {
        return Some(format!("special token {id} is looked for after others"));
    }
    let mut known: FxHashSet<u32> = tokenizer.byte_ids.iter().copied().collect();
    for merge in &tokenizer.merges {
        if !(known.contains(&merge.left) && known.contains(&merge.right)) {
            return Some(format!("token {} is joined before it is made", merge.left));
        }
        known.insert(merge.product);
    }
    let specials = tokenizer.special_ids();
    (0..).zip(&tokenizer.tokens).find_map(|(id, bytes)| {
        let is_special = specials.binary_search(&id).is_ok();
        let is_its_own = tokenizer.ids.get(bytes) == Some(&id);
        match known.contains(&id) {
            true if is_special => Some(format!("token {id} is special, and made by merges too")),
            false if !is_special => {
                Some(format!("token {id}, which no merge makes, is not special"))
            }
            _ if !is_its_own => Some(format!("special token {id} is written like another token")),
            _ => None,
        }
    })
}

/// The tokenizers in a folder, or the one in a file.
fn find(path: &Path) -> Result<Vec<Found>, TokenizerError> {
    let here = |format| Found {
        format,
        path: path.to_owned(),
    };
    if path.is_file() {
        let is_tiktoken = path.extension().is_some_and(|end| end == TIKTOKEN_END);
        let name = path.file_name().unwrap_or_default();
        return Ok(match name.to_str() {
            _ if is_tiktoken => vec![here(Format::Tiktoken)],
            Some(VOCAB_FILE | MERGES_FILE | PICKLED_MERGES_FILE) => {
                find(path.parent().unwrap_or(Path::new(".")))?
            }
            // Others name it by the model, such as `gpt2.json`.
            Some(name) if name.ends_with(".json") => vec![here(Format::HuggingFace)],
            _ => Vec::new(),
        });
    }
    let mut found = Vec::new();
    let has = |name| path.join(name).is_file();
    if has(MERGES_FILE) || (has(VOCAB_FILE) && !has(PICKLED_MERGES_FILE)) {
        found.push(here(Format::Gpt2));
    }
    if has(PICKLED_MERGES_FILE) {
        found.push(here(Format::Cs336));
    }
    if has(HUGGING_FACE_FILE) {
        found.push(Found {
            format: Format::HuggingFace,
            path: path.join(HUGGING_FACE_FILE),
        });
    }
    let entries = std::fs::read_dir(path).map_err(|cause| read_error(path, cause))?;
    let mut ranks: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == TIKTOKEN_END))
        .collect();
    ranks.sort();
    found.extend(ranks.into_iter().map(|path| Found {
        format: Format::Tiktoken,
        path,
    }));
    Ok(found)
}

/// A file that is written in full and takes its name when it is committed.
fn prepare(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<WholeFile>) -> io::Result<()>,
) -> Result<WholeFile, TokenizerError> {
    let written = || {
        let mut out = BufWriter::new(WholeFile::begin(path)?);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)
    };
    written().map_err(|cause| write_error(path, cause))
}

/// Gives files that were prepared their names: all were written before the first one takes its.
fn commit<const N: usize>(files: [(&Path, WholeFile); N]) -> Result<(), TokenizerError> {
    for (path, file) in files {
        file.commit().map_err(|cause| write_error(path, cause))?;
    }
    Ok(())
}

fn write_error(path: &Path, cause: io::Error) -> TokenizerError {
    TokenizerError::Write {
        path: path.to_owned(),
        cause,
    }
}

fn read_error(path: &Path, cause: io::Error) -> TokenizerError {
    TokenizerError::Read {
        path: path.to_owned(),
        cause,
    }
}

fn read(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|cause| read_error(path, cause))
}

/// The text of a file, or `None` where there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, TokenizerError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(TokenizerError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
