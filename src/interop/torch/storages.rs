//! Where the storages of a file lie, in either format.

use rustc_hash::FxHashMap;

use super::archive::Archive;
use super::pickle::{Dtype, StorageUse};
use super::problem::Problem;
use crate::data::positional::PositionalFile;

/// The bytes of a storage, or of the part of it that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// Zero where there is none.
    pub(crate) crc: u32,
}

/// The storages of a file.
#[derive(Debug)]
pub(crate) enum Storages {
    /// Entries `data/<key>`.
    Archive(Archive),
    /// By key, in the format before torch 1.6.
    Listed(FxHashMap<String, Place>),
}

impl Storages {
    /// Where the storage of a tensor lies, whose length is checked against the file.
    pub(crate) fn place(
        &self,
        file: &PositionalFile,
        tensor: &str,
        storage: &StorageUse,
    ) -> Result<Place, Problem> {
        let key = &storage.key;
        let missing = || {
            Problem::tensor(
                tensor,
                format!("needs the storage '{key}', which is missing"),
            )
        };
        let place = match self {
            Self::Listed(places) => *places.get(&**key).ok_or_else(missing)?,
            Self::Archive(archive) => {
                let name = format!("data/{key}");
                let entry = archive.find(&name).ok_or_else(missing)?;
                Place {
                    start: archive.data_start(file, &name, entry)?,
                    len: entry.len,
                    crc: entry.crc,
                }
            }
        };
        let wanted = bytes_of(storage.elements, storage.dtype);
        if wanted != Some(place.len) {
            return Err(Problem::tensor(
                tensor,
                format!(
                    "needs a storage '{key}' of {} elements of {}, but the file has {} bytes of it",
                    storage.elements,
                    storage.dtype.name(),
                    place.len
                ),
            ));
        }
        match storage.part {
            None => Ok(place),
            Some(part) => part_of(place, part, storage.dtype).ok_or_else(|| {
                Problem::tensor(
                    tensor,
                    format!(
                        "needs {} elements from {} on of the storage '{key}', which has {}",
                        part.1, part.0, storage.elements
                    ),
                )
            }),
        }
    }
}

/// Bytes of `elements`, if they are a sound number.
pub(crate) fn bytes_of(elements: i64, dtype: Dtype) -> Option<u64> {
    let elements = u64::try_from(elements).ok()?;
    elements.checked_mul(dtype.width() as u64)
}

fn part_of(whole: Place, (first, elements): (i64, i64), dtype: Dtype) -> Option<Place> {
    let (skipped, len) = (bytes_of(first, dtype)?, bytes_of(elements, dtype)?);
    let end = skipped.checked_add(len)?;
    (end <= whole.len).then_some(Place {
        start: whole.start + skipped,
        len,
        crc: 0,
    })
}
