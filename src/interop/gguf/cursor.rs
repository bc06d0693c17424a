//! Reads the part of a file that comes before its tensors, piece by piece. Every length is held against the file
//! before anything of that length is allocated.

use std::fmt::Arguments;
use std::path::Path;

use super::FORMAT;
use crate::data::positional::PositionalFile;
use crate::interop::InteropError;

/// Bytes that are read at once, where a piece is not longer.
const WINDOW: u64 = 1 << 18;
/// Metadata of more bytes than this are no vocabulary: those of 250,000 tokens have 10 MB.
const MOST_BYTES: u64 = 1 << 28;

/// A place in a file, from which pieces are taken.
pub(super) struct Cursor<'f> {
    path: &'f Path,
    file: &'f PositionalFile,
    at: u64,
    /// What was read ahead.
    window: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

impl<'f> Cursor<'f> {
    pub(super) fn new(path: &'f Path, file: &'f PositionalFile) -> Self {
        Self {
            path,
            file,
            at: 0,
            window: Vec::new(),
            taken: 0,
        }
    }

    /// The next byte's place.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    /// Bytes of the file.
    pub(super) fn file_len(&self) -> u64 {
        self.file.len()
    }

    pub(super) fn damaged(&self, problem: String) -> InteropError {
        InteropError::Damaged {
            path: self.path.to_owned(),
            format: FORMAT,
            problem,
        }
    }

    pub(super) fn unsupported(&self, what: String) -> InteropError {
        InteropError::Unsupported {
            path: self.path.to_owned(),
            what,
        }
    }

    /// `count` as a number of things that take at least `size` bytes each, if as many can be in what is left.
    pub(super) fn fitting(
        &self,
        count: u64,
        size: u64,
        what: Arguments<'_>,
    ) -> Result<usize, InteropError> {
        let left = self.file.len() - self.at;
        let wanted = count.checked_mul(size);
        match (wanted, usize::try_from(count)) {
            (Some(wanted), Ok(count)) if wanted <= left => {
                if wanted > MOST_BYTES - self.at.min(MOST_BYTES) {
                    let most = MOST_BYTES >> 20;
                    return Err(self.unsupported(format!("metadata of more than {most} MiB")));
                }
                Ok(count)
            }
            _ => Err(self.damaged(format!(
                "{what}: {count} times {size} bytes should follow byte {}, and {left} do",
                self.at
            ))),
        }
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64, what: Arguments<'_>) -> Result<&[u8], InteropError> {
        let len = self.fitting(len, 1, what)?;
        if self.window.len() - self.taken < len {
            self.read_ahead(len)?;
        }
        let taken = self.taken;
        self.taken += len;
        self.at += len as u64;
        Ok(&self.window[taken..self.taken])
    }

    /// Fills the window from here on, with at least `len` bytes, which are there.
    fn read_ahead(&mut self, len: usize) -> Result<(), InteropError> {
        let left = self.file.len() - self.at;
        let ahead = usize::try_from(left.min(WINDOW)).unwrap_or(len);
        self.window.resize(len.max(ahead), 0);
        self.taken = 0;
        self.file
            .read_at(self.at, &mut self.window)
            .map_err(|source| InteropError::Unreadable {
                path: self.path.to_owned(),
                source,
            })
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: Arguments<'_>,
    ) -> Result<[u8; N], InteropError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: Arguments<'_>) -> Result<u32, InteropError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: Arguments<'_>) -> Result<u64, InteropError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A text behind its length.
    pub(super) fn text(&mut self, what: Arguments<'_>) -> Result<String, InteropError> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.damaged(format!("{what} is no UTF-8"))),
        }
    }
}
