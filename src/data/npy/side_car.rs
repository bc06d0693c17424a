//! What is known of a token file besides its ids, kept in a small JSON file beside it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::NpyError;
use super::writer::write_error;
use crate::files;

/// What `X.npy.json` says of `X.npy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideCar {
    /// [Hash](crate::data::tokenizer::Tokenizer::hash) of the tokenizer that made the ids.
    pub tokenizer_hash: String,
    /// Number of tokens in the file.
    pub tokens: u64,
    /// Number of documents in the file.
    pub documents: u64,
}

impl SideCar {
    /// Where the side-car of the token file at `path` is.
    pub fn path(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// Reads the side-car of the token file at `path`, or `None` where it has none.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, NpyError> {
        let path = Self::path(path);
        let json = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(NpyError::Read { path, cause }),
            Ok(json) => json,
        };
        match serde_json::from_slice(&json) {
            Ok(side_car) => Ok(Some(side_car)),
            Err(error) => Err(NpyError::SideCar {
                path,
                problem: error.to_string(),
            }),
        }
    }

    /// Writes the side-car of the token file at `path`, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), NpyError> {
        let path = Self::path(path);
        let written = files::write_with(&path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)
        });
        written.map_err(|cause| write_error(&path, cause))
    }

    /// Removes the side-car of the token file at `path`, if it has one.
    pub(super) fn remove(path: &Path) -> Result<(), NpyError> {
        let path = Self::path(path);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(write_error(&path, cause)),
            _ => Ok(()),
        }
    }
}
