//! GGUF, the files of llama.cpp: metadata by key, and tensors, some of them quantised.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod config;
mod cursor;
mod infos;
mod metadata;
#[cfg(test)]
mod tests;
mod tokenizer;
mod types;
mod value;
mod write;

use std::path::{Path, PathBuf};

use super::{InteropError, TensorInfo, TensorSource};
use crate::data::positional::PositionalFile;
use cursor::Cursor;
use infos::Place;
use metadata::Metadata;

pub(super) use config::{ROPE_FREQS, open};
pub(crate) use config::{metadata, rope_divisors};
pub(crate) use tokenizer::keys as tokenizer_keys;
pub(super) use tokenizer::read as read_tokenizer;
pub use value::GgufValue;
#[cfg(test)]
pub(crate) use value::Numbers;
pub(crate) use write::write;

const FORMAT: &str = "GGUF";
/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written; 2 differs in nothing but that it knows no big-endian files.
const VERSION: u32 = 3;
/// Where tensors begin a multiple of, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// What says otherwise.
const ALIGNMENT_KEY: &str = "general.alignment";
/// How many files the tensors are spread over.
const PARTS_KEY: &str = "split.count";

/// A GGUF file, open for reading.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: PositionalFile,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Where the bytes of each tensor are.
    places: Vec<Place>,
}

impl GgufFile {
    /// Opens the file at `path` and reads everything but its tensors' elements.
    ///
    /// # Errors
    /// When it is missing, damaged, or has something that is not supported: another version or byte order, types of
    /// elements that are not read, or parts in other files.
    pub fn open(path: &Path) -> Result<Self, InteropError> {
        let unreadable = |source| InteropError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = PositionalFile::open(path).map_err(unreadable)?;
        let mut cursor = Cursor::new(path, &file);
        let counts = start(&mut cursor)?;
        let metadata = metadata::read(&mut cursor, counts.metadata)?;
        if metadata.find_u64(PARTS_KEY)?.is_some_and(|parts| parts > 1) {
            return Err(cursor.unsupported("a model in several files".to_owned()));
        }
        let alignment = alignment(&cursor, &metadata)?;
        let (tensors, places) = infos::read(&mut cursor, counts.tensors, alignment)?;
        Ok(Self {
            path: path.to_owned(),
            metadata,
            tensors,
            places,
            file,
        })
    }

    /// What the file says of its model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl TensorSource for GgufFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        let place = self.places[index];
        let mut bytes = vec![0; place.len];
        self.file
            .read_at(place.start, &mut bytes)
            .map_err(|source| InteropError::Tensor {
                path: self.path.clone(),
                name: self.tensors[index].name.clone(),
                problem: format!("cannot be read: {source}"),
            })?;
        Ok(bytes)
    }
}

/// How much a file says it has.
struct Counts {
    tensors: u64,
    metadata: u64,
}

/// What comes before the metadata.
fn start(cursor: &mut Cursor<'_>) -> Result<Counts, InteropError> {
    let magic: [u8; 4] = cursor.array(format_args!("the first bytes"))?;
    if magic != MAGIC {
        let found = magic.escape_ascii();
        return Err(cursor.damaged(format!("it begins with '{found}' and not with 'GGUF'")));
    }
    let version = cursor.u32(format_args!("the version"))?;
    if !(2..=VERSION).contains(&version) {
        // No version is so high: the bytes are those of a low one, the other way round.
        return Err(cursor.unsupported(if version & 0xffff == 0 {
            "a big-endian GGUF file".to_owned()
        } else {
            format!("version {version} of GGUF")
        }));
    }
    Ok(Counts {
        tensors: cursor.u64(format_args!("the number of tensors"))?,
        metadata: cursor.u64(format_args!("the number of metadata"))?,
    })
}

fn alignment(cursor: &Cursor<'_>, metadata: &Metadata) -> Result<u64, InteropError> {
    let alignment = metadata.find_u64(ALIGNMENT_KEY)?.unwrap_or(ALIGNMENT);
    if alignment.is_power_of_two() {
        return Ok(alignment);
    }
    Err(cursor.damaged(format!(
        "{ALIGNMENT_KEY} is {alignment}, which is no power of two"
    )))
}
