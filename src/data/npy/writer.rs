//! Writes a token file in a stream.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use super::header::{self, WRITTEN_LEN};
use super::{Dtype, NpyError};

/// Writes ids one after another to a temporary file, which [`TokenWriter::finish`] gives its
/// name; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct TokenWriter {
    path: PathBuf,
    out: BufWriter<AtomicWriteFile>,
    vocab_size: usize,
    dtype: Dtype,
    len: usize,
}

impl TokenWriter {
    /// Starts a file at `path` for the ids of a vocabulary, whose size chooses the [`Dtype`].
    ///
    /// # Errors
    ///
    /// If no file can be written in the directory of `path`.
    pub fn create(path: &Path, vocab_size: usize) -> Result<Self, NpyError> {
        let open = || {
            let mut out = BufWriter::with_capacity(1 << 16, AtomicWriteFile::open(path)?);
            // The number of tokens is only known at the end, when the header is written.
            out.write_all(&[0; WRITTEN_LEN])?;
            Ok(out)
        };
        let out = open().map_err(|cause| write_error(path, cause))?;
        let dtype = Dtype::for_vocab(vocab_size);
        Ok(Self {
            path: path.to_owned(),
            out,
            vocab_size,
            dtype,
            len: 0,
        })
    }

    /// Number of ids written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no ids are written so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends ids.
    ///
    /// # Errors
    ///
    /// If an id is outside the vocabulary, or the file cannot be written.
    pub fn push(&mut self, ids: &[u32]) -> Result<(), NpyError> {
        for &id in ids {
            if usize::try_from(id).is_ok_and(|id| id >= self.vocab_size) {
                return Err(NpyError::OutsideVocab {
                    path: self.path.clone(),
                    id,
                    position: self.len,
                    vocab_size: self.vocab_size,
                });
            }
            // Little end first, so the low bytes are the first ones.
            let bytes = &id.to_le_bytes()[..self.dtype.size()];
            self.out
                .write_all(bytes)
                .map_err(|cause| write_error(&self.path, cause))?;
            self.len += 1;
        }
        Ok(())
    }

    /// Writes the header, syncs the file and gives it its name, in place of any file there.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; then no file is left, or the one that was there before.
    pub fn finish(mut self) -> Result<(), NpyError> {
        let header = header::format(self.dtype, self.len);
        let finish = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .commit()
        };
        finish().map_err(|cause| write_error(&self.path, cause))
    }
}

fn write_error(path: &Path, cause: io::Error) -> NpyError {
    NpyError::Write {
        path: path.to_owned(),
        cause,
    }
}
