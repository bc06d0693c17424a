//! What can go wrong with a token file.

use std::path::PathBuf;

/// Why a token file could not be read or written; each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file is missing or cannot be read.
    #[error(
        "cannot read {}: {cause}; check the path, or make the file with `gpu-tlm \
         tokenizer encode`",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The file cannot be written.
    #[error(
        "cannot write {}: {cause}; check that the directory exists, may be written and \
         has space",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The file does not start as `.npy` files do.
    #[error(
        "{} is not a .npy file: expected it to start with \\x93NUMPY, found '{found}'; \
         make it with `gpu-tlm tokenizer encode` or numpy.save",
        path.display()
    )]
    NotNpy {
        /// The file.
        path: PathBuf,
        /// Its first bytes, escaped.
        found: String,
    },
    /// The format's version is not one that this program reads.
    #[error(
        "{} has .npy version {found}, expected 1.0 or 2.0; save it again with numpy.save",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version, such as `3.0`.
        found: String,
    },
    /// The header is damaged.
    #[error(
        "{} has a damaged .npy header: expected {expected}, found {found:?}; make the \
         file again",
        path.display()
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The ids are stored in a type that this program does not read.
    #[error(
        "{} holds numbers of type {found}, expected '<u2' or '<u4'; convert it with \
         numpy.save(path, tokens.astype('<u2')), or '<u4' above 65,536 tokens",
        path.display()
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// NumPy's name of the type.
        found: String,
    },
    /// The array does not have one dimension.
    #[error(
        "{} has shape {found}{}, expected one dimension; flatten it with \
         numpy.save(path, tokens.ravel())",
        path.display(), if *is_fortran { " in Fortran order" } else { "" }
    )]
    Rank {
        /// The file.
        path: PathBuf,
        /// The shape as the header gives it.
        found: String,
        /// Whether the first index varies fastest.
        is_fortran: bool,
    },
    /// The file ends before its last token.
    #[error(
        "{} is cut short: expected {expected} bytes by its header, found {found}; copy \
         or make the file again",
        path.display()
    )]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Length by the header, in bytes.
        expected: u64,
        /// Length of the file, in bytes.
        found: u64,
    },
    /// The file goes on after its last token.
    #[error(
        "{} has bytes after its last token: expected {expected} bytes by its header, \
         found {found}; copy or make the file again",
        path.display()
    )]
    Trailing {
        /// The file.
        path: PathBuf,
        /// Length by the header, in bytes.
        expected: u64,
        /// Length of the file, in bytes.
        found: u64,
    },
    /// The file has lost its end since it was opened.
    #[error(
        "{} became shorter while it was read: it ended before token {position}; copy or make the \
         file again, and leave it as it is while it is in use",
        path.display()
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// The last token that was asked for.
        position: usize,
    },
    /// A token is not in the vocabulary.
    #[error(
        "{} has token {id} at position {position}, expected tokens below the vocabulary \
         size {vocab_size}; use the tokenizer and vocab_size that the file was made with",
        path.display()
    )]
    OutsideVocab {
        /// The file.
        path: PathBuf,
        /// The first token outside.
        id: u32,
        /// Its index, counted from 0.
        position: usize,
        /// Number of tokens in the vocabulary.
        vocab_size: usize,
    },
    /// The side-car of a token file is damaged or belongs to another one.
    #[error(
        "{} does not describe the token file beside it: {problem}; encode the text again, or remove \
         this file",
        path.display()
    )]
    SideCar {
        /// The side-car.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file was made by another tokenizer.
    #[error(
        "{} was made by tokenizer {found}, but the given one is {given}; use the tokenizer that \
         made it, or have the difference ignored",
        path.display()
    )]
    OtherTokenizer {
        /// The file.
        path: PathBuf,
        /// Short hash of the tokenizer that made the file.
        found: String,
        /// Short hash of the given tokenizer.
        given: String,
    },
}

impl NpyError {
    /// Whether the request itself was bad (exit code 2) rather than its run (exit code 1).
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::OtherTokenizer { .. })
    }
}
