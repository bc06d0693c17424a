//! What can go wrong with text that is read from files.

use std::io;
use std::path::PathBuf;

/// Why text could not be read; each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is missing, cannot be read, or is damaged within its compression.
    #[error("cannot read {}: {cause}; {remedy}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system or the decompressor says.
        cause: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// No file matches a pattern.
    #[error("no file matches '{}'; check the pattern, and quote it so that the shell leaves it alone", pattern.display())]
    NoMatch {
        /// The pattern.
        pattern: PathBuf,
    },
    /// The pattern is none.
    #[error("'{}' is no pattern of files: {reason}", pattern.display())]
    Pattern {
        /// The pattern.
        pattern: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory was given for a file.
    #[error("{} is a directory; name its files, for example '{}/*.txt'", path.display(), path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// Text holds bytes that are no UTF-8.
    #[error(
        "{} is not UTF-8 at byte {offset}{}; convert it first, for example with `iconv -t utf-8`, \
         or have such bytes replaced",
        path.display(), if *is_packed { " of its uncompressed text" } else { "" }
    )]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first wrong byte, counted from 0.
        offset: u64,
        /// Whether the offset is one in the decompressed text.
        is_packed: bool,
    },
    /// A line of JSON lines is no JSON object with the text wanted.
    #[error("{}: line {line}, at byte {offset}, {problem}; {remedy}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Where it starts in the uncompressed file, counted from 0.
        offset: u64,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A piece of text that has to be held whole is longer than allowed.
    #[error(
        "{}: {what} {place} is longer than {limit} bytes, the most that is held at once; {cause}: \
         part the documents, or raise that limit",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What is too long.
        what: &'static str,
        /// Where it is.
        place: String,
        /// Bytes that are allowed.
        limit: usize,
        /// Why it may be so long.
        cause: &'static str,
    },
    /// A Parquet file was given to a program without support for it.
    #[error(
        "{} is a Parquet file, which this program was built without; build it with \
         `cargo install --path . --features parquet`, or convert the file to .jsonl",
        path.display()
    )]
    NoParquet {
        /// The file.
        path: PathBuf,
    },
    /// A Parquet file is damaged or has no text in the column wanted.
    #[error("{}: {problem}; {remedy}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl InputError {
    /// Whether the request itself was bad (exit code 2) rather than its run (exit code 1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoMatch { .. }
                | Self::Pattern { .. }
                | Self::Directory { .. }
                | Self::NoParquet { .. }
        )
    }
}
