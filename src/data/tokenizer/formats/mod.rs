//! The files that tokenizers are kept in, here and by other programs.

mod cs336;
mod gpt2;
mod hugging_face;
mod tiktoken;
mod vocabulary;

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::{Tokenizer, TokenizerError};
use crate::files::{self, WholeFile};

const VOCAB_FILE: &str = "vocab.json";
const MERGES_FILE: &str = "merges.txt";
const PICKLED_MERGES_FILE: &str = "merges.pkl";
const HUGGING_FACE_FILE: &str = "tokenizer.json";
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
    let Some((first, others)) = found.split_first() else {
        return Err(TokenizerError::NotFound {
            path: path.to_owned(),
            wanted: format.map_or("a tokenizer", Format::name),
        });
    };
    let tokenizer = first.load(special_tokens)?;
    for other in others {
        if other.load(special_tokens)?.hash() != tokenizer.hash() {
            return Err(TokenizerError::Ambiguous {
                path: path.to_owned(),
                first: first.format.name(),
                second: other.format.name(),
            });
        }
    }
    Ok(tokenizer)
}

/// See [`Tokenizer::save_as`].
pub(super) fn save(
    tokenizer: &Tokenizer,
    format: Format,
    dir: &Path,
) -> Result<(), TokenizerError> {
    files::create_folder(dir).map_err(|cause| write_error(dir, cause))?;
    match format {
        Format::Gpt2 => gpt2::save(tokenizer, dir),
        Format::Cs336 => cs336::save(tokenizer, dir),
        Format::HuggingFace => hugging_face::save(tokenizer, &dir.join(HUGGING_FACE_FILE)),
        Format::Tiktoken => tiktoken::save(tokenizer, &dir.join("tokenizer.tiktoken")),
    }
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
