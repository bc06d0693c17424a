//! What is trained on: a token file seen as windows of one context length, each with its next tokens as targets,
//! or rows of examples.

use std::path::{Path, PathBuf};

use super::chat::{ChatError, read_examples};
use super::examples::ExampleRows;
use super::npy::{NpyError, TokenFile};
use super::tokenizer::{END_OF_TEXT, TokenRoles, Tokenizer};

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
    /// Instruction data that cannot be read.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// Instruction data without a tokenizer.
    #[error(
        "'{}' is instruction data, which becomes tokens by the model's own tokenizer, and the model brings none \
         along; name one",
        path.display()
    )]
    NoTokenizer {
        /// The file.
        path: PathBuf,
    },
    /// A token file whose documents are not to see each other, without a way to tell where they end.
    #[error(
        "document_mask is set, but nothing tells which token ends a document of '{}'; name the tokenizer that made \
         it, which has to have {END_OF_TEXT} or a token that ends texts",
        path.display()
    )]
    NoEndOfDocument {
        /// The file.
        path: PathBuf,
    },
    /// An example with a token that the model does not have.
    #[error(
        "example {number} of '{}' has the token {token}, but the model has {vocab_size}; use the model's own \
         tokenizer",
        path.display()
    )]
    OutsideOfVocabulary {
        /// The file.
        path: PathBuf,
        /// Which example, counted from 1.
        number: usize,
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// No example has an answer.
    #[error(
        "none of the {examples} examples of '{}' has an answer within context_length + 1 = {} tokens; raise \
         context_length, or shorten the prompts",
        path.display(),
        context_length + 1
    )]
    NoAnswers {
        /// The file.
        path: PathBuf,
        /// Examples that it has.
        examples: usize,
        /// Tokens of a row.
        context_length: usize,
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

impl DatasetError {
    /// Whether the request was wrong, rather than a file.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoTokenizer { .. } | Self::NoEndOfDocument { .. }
        )
    }
}

/// Tokens of one batch and the token that follows each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[batch, time]`.
    pub tokens: Vec<u32>,
    /// `[batch, time]`: [`IGNORED`](crate::kernels::cross_entropy::IGNORED) where none counts.
    pub targets: Vec<u32>,
    /// `[batch, time]`: for each position the one of its row where its document begins, where that is known.
    pub documents: Option<Vec<u32>>,
}

/// Tokens that have been seen to lie inside of the vocabulary.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
    vocab_size: usize,
    context_length: usize,
}

/// Where they come from.
#[derive(Debug)]
enum Source {
    Tokens {
        file: TokenFile,
        /// Ends a document, where documents are told apart.
        end_of_document: Option<u32>,
    },
    Examples(ExampleRows),
}

/// What a run's data is made of, besides the file.
#[derive(Clone, Copy, Debug)]
pub struct DataShape<'a> {
    /// Tokens of the model.
    pub vocab_size: usize,
    /// Tokens of a window or row.
    pub context_length: usize,
    /// What makes tokens of instruction data, and tells which one ends a document.
    pub tokenizer: Option<&'a (Tokenizer, TokenRoles)>,
    /// Whether documents that share a row do not see each other: then rows hold as many examples as fit.
    pub document_mask: bool,
}

/// Whether a path names instruction data, by its end: `.jsonl`, and `.gz` or `.zst` behind that.
pub fn is_instruction_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name
        .strip_suffix(".gz")
        .or(name.strip_suffix(".zst"))
        .unwrap_or(&name);
    [".jsonl", ".ndjson"].iter().any(|end| name.ends_with(end))
}

/// Where batches may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Windows that follow each other without overlap, or rows.
    pub windows: usize,
    /// From one of these to the next.
    pub stride: usize,
    /// Places that a random draw is among: the first so many.
    pub random: usize,
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
            source: Source::Tokens {
                file,
                end_of_document: None,
            },
            vocab_size,
            context_length,
        })
    }

    /// Opens a token file or, by the end of its name, instruction data.
    ///
    /// # Errors
    /// As those of [`Dataset::open`] and [`read_examples`]; when there is no tokenizer where one is needed, or no
    /// example has an answer.
    pub fn open_any(path: &Path, shape: DataShape<'_>) -> Result<Self, DatasetError> {
        let path_of = || path.to_owned();
        let (vocab_size, context_length) = (shape.vocab_size, shape.context_length);
        if !is_instruction_data(path) {
            let tokens = Self::open(path, vocab_size, context_length)?;
            if !shape.document_mask {
                return Ok(tokens);
            }
            let end = shape.tokenizer.and_then(|(tokenizer, roles)| {
                let end_of_text = tokenizer.token_id(END_OF_TEXT);
                end_of_text.or(roles.eos.first().copied())
            });
            let end = end.ok_or_else(|| DatasetError::NoEndOfDocument { path: path_of() })?;
            return Ok(tokens.with_end_of_document(end));
        }
        let (tokenizer, roles) = shape
            .tokenizer
            .ok_or_else(|| DatasetError::NoTokenizer { path: path_of() })?;
        let examples = read_examples(path, tokenizer, roles)?;
        let packed = shape.document_mask;
        let rows = ExampleRows::new(path, examples, vocab_size, context_length, packed)?;
        tracing::info!(
            "{}: {} examples in {} rows of {context_length} tokens, {} of which are answers",
            path.display(),
            rows.examples(),
            rows.len(),
            rows.answers()
        );
        Ok(Self::of_examples(rows, vocab_size))
    }

    /// The rows of examples for a model of `vocab_size` tokens.
    pub fn of_examples(rows: ExampleRows, vocab_size: usize) -> Self {
        Self {
            vocab_size,
            context_length: rows.context_length(),
            source: Source::Examples(rows),
        }
    }

    /// Tells documents of a token file apart, each of which ends with `token`; those of examples are known.
    pub fn with_end_of_document(mut self, token: u32) -> Self {
        if let Source::Tokens {
            end_of_document, ..
        } = &mut self.source
        {
            *end_of_document = Some(token);
        }
        self
    }

    /// The token file, if it is one.
    pub fn file(&self) -> Option<&TokenFile> {
        match &self.source {
            Source::Tokens { file, .. } => Some(file),
            Source::Examples(_) => None,
        }
    }

    /// The examples, if it is of these.
    pub fn examples(&self) -> Option<&ExampleRows> {
        match &self.source {
            Source::Tokens { .. } => None,
            Source::Examples(rows) => Some(rows),
        }
    }

    /// Where batches may begin.
    pub fn places(&self) -> Places {
        match &self.source {
            Source::Tokens { file, .. } => Places {
                windows: self.windows(),
                stride: self.context_length,
                random: file.len() - self.context_length,
            },
            Source::Examples(rows) => Places {
                windows: rows.len(),
                stride: 1,
                random: rows.len(),
            },
        }
    }

    /// Tokens of a window.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Windows that start at multiples of the context length and have all their targets; or rows.
    pub fn windows(&self) -> usize {
        match &self.source {
            Source::Tokens { file, .. } => (file.len() - 1) / self.context_length,
            Source::Examples(rows) => rows.len(),
        }
    }

    /// Batches of the first `windows` windows, each of which starts where the one before
    /// ends, in passes of at most `per_pass`; the same windows every time, so that figures compare.
    pub fn passes<E: From<DatasetError>>(
        &self,
        windows: usize,
        per_pass: usize,
    ) -> impl Iterator<Item = Result<Batch, E>> {
        let stride = self.places().stride;
        (0..windows).step_by(per_pass).map(move |first| {
            let last = windows.min(first + per_pass);
            let starts: Vec<usize> = (first..last).map(|window| window * stride).collect();
            Ok(self.batch(&starts)?)
        })
    }

    /// The windows that start at `starts`, or the rows of these numbers, in that order.
    ///
    /// # Errors
    /// When the file cannot be read any more, or changed since it was checked: shaders index by token without a bounds check.
    pub fn batch(&self, starts: &[usize]) -> Result<Batch, DatasetError> {
        let (file, end_of_document) = match &self.source {
            Source::Examples(rows) => return Ok(rows.batch(starts)),
            Source::Tokens {
                file,
                end_of_document,
            } => (file, *end_of_document),
        };
        let mut batch = Batch {
            documents: end_of_document.map(|_| Vec::new()),
            ..Batch::default()
        };
        for &start in starts {
            let window = file.get(start..start + self.context_length + 1)?;
            if let Some(&token) = window
                .iter()
                .find(|&&token| token as usize >= self.vocab_size)
            {
                let path = file.path().to_owned();
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
            if let (Some(end), Some(documents)) = (end_of_document, &mut batch.documents) {
                documents.extend(document_starts(&window[..self.context_length], end));
            }
        }
        Ok(batch)
    }
}

/// For each token of a window the place where its document begins: the first, or the one behind an `end`.
fn document_starts(window: &[u32], end: u32) -> impl Iterator<Item = u32> {
    let mut first = 0;
    (0..).zip(window).map(move |(place, &token)| {
        let own = first;
        if token == end {
            first = place + 1;
        }
        own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_begins_behind_the_end_of_another() {
        let starts: Vec<u32> = document_starts(&[5, 0, 7, 8, 0, 0, 9], 0).collect();
        assert_eq!(starts, [0, 0, 2, 2, 2, 5, 6]);
    }
}
