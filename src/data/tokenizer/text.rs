//! Text files to train on and to encode.

use std::path::{Path, PathBuf};

use super::TokenizerError;
use crate::data::mapped::MappedFile;

/// A UTF-8 file that may be larger than memory; see [`MappedFile`] for what that asks for.
#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    file: MappedFile,
}

impl TextFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file is missing or cannot be read.
    pub fn open(path: &Path) -> Result<Self, TokenizerError> {
        let file = MappedFile::open(path).map_err(|cause| TokenizerError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// The whole text, after one pass over it.
    ///
    /// # Errors
    ///
    /// If the file is not UTF-8, with the offset of the first wrong byte.
    pub fn text(&self) -> Result<&str, TokenizerError> {
        std::str::from_utf8(self.file.bytes()).map_err(|cause| TokenizerError::Utf8 {
            path: self.path.clone(),
            offset: cause.valid_up_to(),
        })
    }
}
