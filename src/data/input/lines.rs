//! The lines of a file, with their places.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::InputError;
use super::files::{InputFile, SourceBytes};

/// Lines one after another; empty ones are left out.
pub struct Lines {
    path: PathBuf,
    bytes: BufReader<SourceBytes>,
    max_len: usize,
    line: Vec<u8>,
    number: u64,
    offset: u64,
}

impl Lines {
    /// Those of the file at `path`, or of standard input where that is `-`; out of its compression, which
    /// is told by the end of its name. `max_len` is the most bytes of a line.
    ///
    /// # Errors
    /// If the file is missing, a directory or not to be read.
    pub fn open(path: &Path, max_len: usize) -> Result<Self, InputError> {
        let file = InputFile::new(path)?;
        let bytes = file.open(&Arc::default())?;
        Ok(Self::new(file.path, bytes, max_len))
    }

    pub(super) fn new(path: PathBuf, bytes: SourceBytes, max_len: usize) -> Self {
        Self {
            path,
            bytes: BufReader::with_capacity(1 << 17, bytes),
            max_len,
            line: Vec::new(),
            number: 0,
            offset: 0,
        }
    }

    /// Reads the next line that is not empty, and says whether there is one.
    ///
    /// # Errors
    /// If the file cannot be read, or the line is too long.
    pub fn advance(&mut self) -> Result<bool, InputError> {
        loop {
            self.offset += self.line.len() as u64;
            self.line.clear();
            // What one long line took is not kept for the short ones behind it.
            self.line.shrink_to(1 << 20);
            self.number += 1;
            let most = self.max_len as u64 + 1;
            let len = (&mut self.bytes)
                .take(most)
                .read_until(b'\n', &mut self.line);
            let len = len.map_err(|cause| InputError::Read {
                path: self.path.clone(),
                cause,
                remedy: self.bytes.get_ref().remedy(),
            })?;
            if len == 0 {
                return Ok(false);
            }
            if self.line.len() > self.max_len {
                return Err(InputError::TooLong {
                    path: self.path.clone(),
                    what: "line",
                    place: format!("{}, at byte {}", self.number, self.offset),
                    limit: self.max_len,
                    cause: "the file may be no JSON lines, or hold an array instead of lines",
                });
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line, with its end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Its number, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The file's name for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the line starts in the uncompressed file, in bytes from 0.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the file is compressed.
    pub(super) fn is_packed(&self) -> bool {
        self.bytes.get_ref().is_packed
    }
}
