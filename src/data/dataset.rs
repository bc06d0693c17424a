//! A token file seen as windows of one context length, each with its next tokens as targets.

use std::path::{Path, PathBuf};

use super::npy::{NpyError, TokenFile};

/// An error of a token file as training data.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file is no sound token file, or holds a token outside of the vocabulary.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// The file holds less than one window.
    #[error(
        "'{}' has {tokens} tokens, but one window takes context_length + 1 = {needed}; lower \
         context_length or use more text",
        path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Tokens it has.
        tokens: usize,
        /// Tokens of a window with its targets.
        needed: usize,
    },
    /// A token that was inside of the vocabulary when the file was opened is not any more.
    #[error("'{}' changed while it was read: token {token} near position {position} is outside of the vocabulary", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The token.
        token: u32,
        /// Start of the window that holds it.
        position: usize,
    },
}

/// Tokens of one batch and the token that follows each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[batch, time]`.
    pub tokens: Vec<u32>,
    /// `[batch, time]`.
    pub targets: Vec<u32>,
}

/// A token file whose every token has been seen to lie inside of the vocabulary.
#[derive(Debug)]
pub struct Dataset {
    file: TokenFile,
    vocab_size: usize,
    context_length: usize,
}

impl Dataset {
    /// Opens and checks the file at `path`.
    ///
    /// # Errors
    /// When it is missing, damaged, too short for a window, or holds a token that is not below
    /// `vocab_size` (the error names its position).
    pub fn open(
        path: &Path,
        vocab_size: usize,
        context_length: usize,
    ) -> Result<Self, DatasetError> {
        let file = TokenFile::open(path)?;
        let needed = context_length + 1;
        if file.len() < needed {
            return Err(DatasetError::TooShort {
                path: path.to_owned(),
                tokens: file.len(),
                needed,
            });
        }
        file.check_vocab(vocab_size)?;
        Ok(Self {
            file,
            vocab_size,
            context_length,
        })
    }

    /// The token file.
    pub fn file(&self) -> &TokenFile {
        &self.file
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.file.len()
    }

    /// Tokens of a window.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Windows that start at multiples of the context length and have all their targets.
    pub fn windows(&self) -> usize {
        (self.file.len() - 1) / self.context_length
    }

    /// Tokens and targets of the first `windows` windows, each of which starts where the one before
    /// ends, in passes of at most `per_pass`; the same windows every time, so that figures compare.
    pub fn passes<E: From<DatasetError>>(
        &self,
        windows: usize,
        per_pass: usize,
    ) -> impl Iterator<Item = Result<(Vec<u32>, Vec<u32>), E>> {
        (0..windows).step_by(per_pass).map(move |first| {
            let last = windows.min(first + per_pass);
            let starts: Vec<usize> = (first..last).map(|w| w * self.context_length).collect();
            let batch = self.batch(&starts)?;
            Ok((batch.tokens, batch.targets))
        })
    }

    /// The windows that start at `starts`, in that order.
    ///
    /// # Errors
    /// When the file cannot be read any more, or changed since it was checked: shaders index by token without a bounds check.
    pub fn batch(&self, starts: &[usize]) -> Result<Batch, DatasetError> {
        let mut batch = Batch::default();
        for &start in starts {
            let window = self.file.get(start..start + self.context_length + 1)?;
            if let Some(&token) = window
                .iter()
                .find(|&&token| token as usize >= self.vocab_size)
            {
                let path = self.file.path().to_owned();
                return Err(DatasetError::Changed {
                    path,
                    token,
                    position: start,
                });
            }
            batch
                .tokens
                .extend_from_slice(&window[..self.context_length]);
            batch.targets.extend_from_slice(&window[1..]);
        }
        Ok(batch)
    }
}
