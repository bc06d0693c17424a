//! Writes a token file in a stream.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::header::{self, WRITTEN_LEN};
use super::{Dtype, NpyError, SideCar};
use crate::files::WholeFile;

/// Ids that are turned into bytes at a time.
const BLOCK_LEN: usize = 1 << 12;

/// Writes ids one after another to a temporary file, which [`TokenWriter::finish`] gives its
/// name; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct TokenWriter {
    path: PathBuf,
    out: BufWriter<WholeFile>,
    vocab_size: usize,
    dtype: Dtype,
    len: usize,
    /// Room for the bytes of a block.
    bytes: Vec<u8>,
}

impl TokenWriter {
    /// Starts a file at `path` for the ids of a vocabulary, whose size chooses the [`Dtype`].
    ///
    /// # Errors
    ///
    /// If no file can be written in the directory of `path`.
    pub fn create(path: &Path, vocab_size: usize) -> Result<Self, NpyError> {
        let open = || {
            let mut out = BufWriter::with_capacity(1 << 16, WholeFile::begin(path)?);
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
            bytes: Vec::new(),
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
        for block in ids.chunks(BLOCK_LEN) {
            let is_outside = |&id: &u32| usize::try_from(id).is_ok_and(|id| id >= self.vocab_size);
            if let Some(at) = block.iter().position(is_outside) {
                return Err(NpyError::OutsideVocab {
                    path: self.path.clone(),
                    id: block[at],
                    position: self.len + at,
                    vocab_size: self.vocab_size,
                });
            }
            self.bytes.clear();
            // Little end first, so the low bytes are the first ones.
            let bytes = block.iter().map(|id| id.to_le_bytes());
            match self.dtype {
                Dtype::U16 => self.bytes.extend(bytes.flat_map(|[a, b, ..]| [a, b])),
                Dtype::U32 => self.bytes.extend(bytes.flatten()),
            }
            self.out
                .write_all(&self.bytes)
                .map_err(|cause| write_error(&self.path, cause))?;
            self.len += block.len();
        }
        Ok(())
    }

    /// Writes the header and everything that is still in memory to the disk, so that of
    /// [`TokenWriter::finish`] only the renaming is left.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn seal(&mut self) -> Result<(), NpyError> {
        let header = header::format(self.dtype, self.len);
        let mut seal = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.seek(SeekFrom::End(0))?;
            self.out.get_ref().sync()
        };
        seal().map_err(|cause| write_error(&self.path, cause))
    }

    /// Writes the header, syncs the file and gives it its name, in place of any file there, whose
    /// side-car is removed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; then no file is left, or the one that was there before.
    pub fn finish(mut self) -> Result<(), NpyError> {
        self.seal()?;
        let Self { path, out, .. } = self;
        // Never beside a file that it does not describe, wherever this is cut off.
        SideCar::remove(&path)?;
        let commit = || {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.commit()
        };
        commit().map_err(|cause| write_error(&path, cause))
    }

    /// The same, with a side-car beside the file that names the tokenizer and counts the tokens.
    ///
    /// # Errors
    ///
    /// Those of [`TokenWriter::finish`], or if the side-car cannot be written.
    pub fn finish_with(self, tokenizer_hash: &str, documents: u64) -> Result<(), NpyError> {
        let path = self.path.clone();
        let side_car = SideCar {
            tokenizer_hash: tokenizer_hash.to_owned(),
            tokens: self.len as u64,
            documents,
        };
        self.finish()?;
        side_car.write(&path)
    }
}

pub(super) fn write_error(path: &Path, cause: io::Error) -> NpyError {
    NpyError::Write {
        path: path.to_owned(),
        cause,
    }
}
