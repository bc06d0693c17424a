//! Token files: ids in NumPy's `.npy` format, read in place and written in a stream.
//!
//! The format is that of NumPy's documentation (`numpy.lib.format`), limited to what a list of
//! token ids needs: one dimension of unsigned 16-bit or 32-bit integers, little end first.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::data::positional::PositionalFile;

mod error;
mod header;
mod side_car;
mod writer;

pub use error::NpyError;
pub use header::Dtype;
pub use side_car::SideCar;
pub use writer::TokenWriter;

/// Tokens that one thread checks at a time.
const CHECK_LEN: usize = 1 << 20;

/// A file of token ids, which may be larger than memory: ids are read where and when they are wanted.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    file: PositionalFile,
    /// Where the ids start, in bytes.
    data_start: u64,
    len: usize,
    dtype: Dtype,
}

impl TokenFile {
    /// Opens the `.npy` file at `path` (versions 1.0 and 2.0, `<u2` or `<u4`, one dimension).
    ///
    /// # Errors
    ///
    /// If the file is missing or unreadable, no `.npy` file, of another version, type or number
    /// of dimensions, or shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self, NpyError> {
        let unreadable = |cause| NpyError::Read {
            path: path.to_owned(),
            cause,
        };
        let file = PositionalFile::open(path).map_err(unreadable)?;
        let start = file.start(header::MOST_LEN).map_err(unreadable)?;
        let header = header::parse(path, &start, file.len())?;
        let data_len = header.len.checked_mul(header.dtype.size());
        let expected = data_len.and_then(|len| (len as u64).checked_add(header.data_start as u64));
        let found = file.len();
        if expected != Some(found) {
            let path = path.to_owned();
            let expected = expected.unwrap_or(u64::MAX);
            return Err(if found < expected {
                NpyError::CutShort {
                    path,
                    expected,
                    found,
                }
            } else {
                NpyError::Trailing {
                    path,
                    expected,
                    found,
                }
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            data_start: header.data_start as u64,
            len: header.len,
            dtype: header.dtype,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the file has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How an id is stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The ids at the positions of `range`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read any more, or has become shorter since it was opened.
    ///
    /// # Panics
    ///
    /// If `range` ends after [`TokenFile::len`] or before its start.
    pub fn get(&self, range: Range<usize>) -> Result<Vec<u32>, NpyError> {
        let mut ids = vec![0; range.len()];
        self.read(range.start, &mut ids)?;
        Ok(ids)
    }

    /// Fills `ids` with those at position `start` and after.
    ///
    /// # Errors
    ///
    /// As those of [`TokenFile::get`].
    ///
    /// # Panics
    ///
    /// If that would read past [`TokenFile::len`].
    pub fn read(&self, start: usize, ids: &mut [u32]) -> Result<(), NpyError> {
        let bytes = self.bytes(start, ids.len())?;
        match self.dtype {
            Dtype::U16 => {
                for (id, bytes) in ids.iter_mut().zip(bytes.as_chunks().0) {
                    *id = u32::from(u16::from_le_bytes(*bytes));
                }
            }
            Dtype::U32 => {
                for (id, bytes) in ids.iter_mut().zip(bytes.as_chunks().0) {
                    *id = u32::from_le_bytes(*bytes);
                }
            }
        }
        Ok(())
    }

    /// The bytes of `len` ids from position `start` on.
    fn bytes(&self, start: usize, len: usize) -> Result<Vec<u8>, NpyError> {
        assert!(start + len <= self.len, "ids past the end");
        let size = self.dtype.size();
        let mut bytes = vec![0; len * size];
        let offset = self.data_start + (start * size) as u64;
        match self.file.read_at(offset, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(NpyError::Shortened {
                    path: self.path.clone(),
                    position: start + len,
                })
            }
            Err(cause) => Err(NpyError::Read {
                path: self.path.clone(),
                cause,
            }),
        }
    }

    /// What is known of the file besides its ids, where it has a side-car.
    ///
    /// # Errors
    ///
    /// If the side-car is damaged, or is that of another file.
    pub fn side_car(&self) -> Result<Option<SideCar>, NpyError> {
        let side_car = SideCar::read(&self.path)?;
        if let Some(found) = side_car
            .as_ref()
            .filter(|found| found.tokens != self.len as u64)
        {
            return Err(NpyError::SideCar {
                path: SideCar::path(&self.path),
                problem: format!(
                    "it is of a file of {} tokens, not of {}",
                    found.tokens, self.len
                ),
            });
        }
        Ok(side_car)
    }

    /// Checks that the tokenizer with this hash made the file, where its side-car tells.
    ///
    /// # Errors
    ///
    /// If another one did: the error names both. Also those of [`TokenFile::side_car`].
    pub fn expect_tokenizer(&self, hash: &str) -> Result<(), NpyError> {
        match self.side_car()? {
            Some(side_car) if side_car.tokenizer_hash != hash => Err(NpyError::OtherTokenizer {
                path: self.path.clone(),
                found: side_car.tokenizer_hash.chars().take(12).collect(),
                given: hash.chars().take(12).collect(),
            }),
            _ => Ok(()),
        }
    }

    /// Reads the whole file and checks that each token is below `vocab_size`.
    ///
    /// # Errors
    ///
    /// If one is not: the error names the first and its position. Also those of [`TokenFile::get`].
    pub fn check_vocab(&self, vocab_size: usize) -> Result<(), NpyError> {
        let starts: Vec<usize> = (0..self.len).step_by(CHECK_LEN).collect();
        let outside = starts.par_iter().find_map_first(|&start| {
            let bytes = match self.bytes(start, CHECK_LEN.min(self.len - start)) {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error)),
            };
            let at = first_outside(self.dtype, &bytes, vocab_size)?;
            Some(Ok(start + at))
        });
        let Some(position) = outside.transpose()? else {
            return Ok(());
        };
        Err(NpyError::OutsideVocab {
            path: self.path.clone(),
            id: self.get(position..position + 1)?[0],
            position,
            vocab_size,
        })
    }
}

/// Index of the first id in `bytes` that is not below `vocab_size`.
///
/// The largest id is taken first, since that needs no branch an id.
fn first_outside(dtype: Dtype, bytes: &[u8], vocab_size: usize) -> Option<usize> {
    match dtype {
        Dtype::U16 => {
            let limit = u16::try_from(vocab_size).ok()?;
            let ids = bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| u16::from_le_bytes(*bytes));
            let largest = ids.clone().max()?;
            if largest < limit {
                None
            } else {
                ids.clone().position(|id| id >= limit)
            }
        }
        Dtype::U32 => {
            let limit = u32::try_from(vocab_size).ok()?;
            let ids = bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| u32::from_le_bytes(*bytes));
            let largest = ids.clone().max()?;
            if largest < limit {
                None
            } else {
                ids.clone().position(|id| id >= limit)
            }
        }
    }
}
