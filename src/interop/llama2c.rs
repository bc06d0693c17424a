//! The `.bin` files of llama2.c: a header of a few numbers, and f32 tensors without names, one after the other.
//!
//! Its `export.py` writes them: `legacy_export` version 0, `version1_export` version 1
//! (<https://github.com/karpathy/llama2.c>). Its programs in C read version 0 alone; version 2 has quantised
//! tensors, for another program of it.

mod config;
mod header;
mod layout;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use super::{ElementType, InteropError, TensorInfo, TensorSource};
use crate::data::positional::PositionalFile;
use layout::Slot;

pub(crate) use header::{Header, Version};
pub(crate) use write::write;

const FORMAT: &str = "llama2.c";
const ELEMENT_BYTES: u64 = 4;

/// Whether a file of `len` bytes that begins with `start` may be one. Version 0 has no magic number, so its length has
/// to be near what its header says; one that was cut is still told so.
pub(crate) fn may_be_one(start: &[u8], len: u64) -> bool {
    header::has_magic(start)
        || header::parse(start).is_ok_and(|(version, header)| {
            let wanted = layout::file_len(&header, version);
            (wanted / 2..=wanted.saturating_mul(2)).contains(&len)
        })
}

/// A file of llama2.c, open for reading. Its heads' rows are rotated as pairs, by angles of base 10,000, and its
/// norms have an epsilon of 1e-5.
#[derive(Debug)]
pub(crate) struct Llama2cFile {
    path: PathBuf,
    file: PositionalFile,
    version: Version,
    header: Header,
    tensors: Vec<TensorInfo>,
    /// Where each begins, and its number of bytes.
    places: Vec<(u64, usize)>,
}

impl Llama2cFile {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// When it is missing, of a version that is not supported, or not as long as its header says, which tells
    /// whether it is a file of this kind at all.
    pub(crate) fn open(path: &Path) -> Result<Self, InteropError> {
        let unreadable = |source| InteropError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = PositionalFile::open(path).map_err(unreadable)?;
        let start = file.start(header::V1_BYTES).map_err(unreadable)?;
        let (version, header) = header::parse(&start).map_err(|problem| problem.at(path))?;
        let wanted = layout::check_len(&header, version, file.len());
        wanted.map_err(|problem| header::Problem::Damaged(problem).at(path))?;
        let (mut tensors, mut places) = (Vec::new(), Vec::new());
        let mut at = version.header_bytes();
        for slot in layout::slots(&header, version) {
            // The sum of all of them is the length of the file.
            let len = slot.bytes();
            if let Slot::Tensor { name, shape } = slot {
                tensors.push(TensorInfo {
                    name,
                    element_type: ElementType::F32,
                    shape,
                });
                places.push((at, usize::try_from(len).unwrap_or(usize::MAX)));
            }
            at = at.saturating_add(len);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            version,
            header,
            tensors,
            places,
        })
    }

    /// What the file says of its model.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Which layout it has.
    pub(crate) fn version(&self) -> Version {
        self.version
    }
}

impl TensorSource for Llama2cFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        let (start, len) = self.places[index];
        let mut bytes = vec![0; len];
        self.file
            .read_at(start, &mut bytes)
            .map_err(|source| InteropError::Tensor {
                path: self.path.clone(),
                name: self.tensors[index].name.clone(),
                problem: format!("cannot be read: {source}"),
            })?;
        Ok(bytes)
    }
}
