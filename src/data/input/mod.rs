//! Text from files: plain, JSON lines or Parquet, compressed or not, one after another and in
//! chunks of bounded size.

mod documents;
mod error;
mod files;
mod jsonl;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod text;
pub(crate) mod utf8;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use documents::Documents;
pub use error::InputError;
use files::{Format, InputFile};
pub use lines::Lines;
use text::TextReader;

use super::tokenizer::Specials;

/// How files are read.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// Key or column of the text in JSON lines and Parquet.
    pub field: String,
    /// Whether bytes that are no UTF-8 become the replacement character, rather than an error.
    pub is_lossy: bool,
    /// Most bytes that are held whole: of a line of JSON, a row of Parquet, or a run of a text file
    /// without a place to cut.
    pub max_document_bytes: usize,
}

/// Most bytes of a document where nothing else is asked for: a thousand times an ordinary one.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

impl Default for InputOptions {
    fn default() -> Self {
        Self {
            field: "text".to_owned(),
            is_lossy: false,
            max_document_bytes: MAX_DOCUMENT_BYTES,
        }
    }
}

/// A piece of text that can be tokenised apart from its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// One or more documents, of which the last may go on in the next chunk.
    pub text: String,
    /// Where in `text` documents end, rising, in bytes. A text file is one document here,
    /// whatever special tokens it holds.
    pub ends: Vec<usize>,
}

impl Chunk {
    /// The documents, or parts of them, each with whether the document ends there.
    pub fn documents(&self) -> impl Iterator<Item = (&str, bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends.iter().map(|&end| (end, true));
        let rest = std::iter::once((self.text.len(), false));
        let parts = starts.zip(ends.chain(rest));
        parts
            .map(|(start, (end, is_end))| (&self.text[start..end], is_end))
            .filter(|&(part, is_end)| is_end || !part.is_empty())
    }
}

/// What has been read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputStats {
    /// Bytes of the files, as they are on disk.
    pub file_bytes: u64,
    /// Bytes of text, after decompression and out of their JSON or Parquet.
    pub text_bytes: u64,
    /// Sequences of bytes that were no UTF-8 and were replaced.
    pub replaced: u64,
}

/// Files that are read one after another.
pub struct Inputs {
    /// Those that are not open yet, the next one last.
    waiting: Vec<InputFile>,
    current: Option<Reader>,
    /// The file that was opened last.
    path: PathBuf,
    options: InputOptions,
    size_bytes: Option<u64>,
    file_bytes: Arc<AtomicU64>,
    stats: InputStats,
}

enum Reader {
    Text(TextReader),
    Documents(Documents),
}

impl Inputs {
    /// Finds the files of `paths`, each of which is a file, a pattern such as `data/*.jsonl.gz`, or
    /// `-` for standard input. What a file holds is told by the end of its name: `.jsonl` or
    /// `.ndjson`, `.parquet`, and text for all others; `.gz` or `.zst` behind that.
    ///
    /// # Errors
    ///
    /// If a file is missing, a directory or not to be read, or no file matches a pattern.
    pub fn open(paths: &[PathBuf], options: InputOptions) -> Result<Self, InputError> {
        let mut waiting = files::find(paths)?;
        let size_bytes = waiting.iter().map(|file| file.size_bytes).sum();
        waiting.reverse();
        Ok(Self {
            waiting,
            current: None,
            path: PathBuf::new(),
            options,
            size_bytes,
            file_bytes: Arc::default(),
            stats: InputStats::default(),
        })
    }

    /// Bytes of all files on disk, or `None` where one is a pipe.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// The file that the last chunk is of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has been read so far.
    pub fn stats(&self) -> InputStats {
        InputStats {
            file_bytes: self.file_bytes.load(Ordering::Relaxed),
            ..self.stats
        }
    }

    /// The next chunk of about `target_len` bytes, cut where `specials` allow it; longer where
    /// they do not. `None` after the last one.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is damaged, or holds bytes that are no UTF-8.
    pub fn next_chunk(
        &mut self,
        specials: &Specials,
        target_len: usize,
    ) -> Result<Option<Chunk>, InputError> {
        loop {
            let Some(reader) = &mut self.current else {
                let Some(file) = self.waiting.pop() else {
                    return Ok(None);
                };
                self.current = Some(self.open_file(&file)?);
                self.path = file.path;
                continue;
            };
            let (chunk, replaced) = match reader {
                Reader::Text(reader) => {
                    (reader.next_chunk(specials, target_len)?, reader.replaced())
                }
                Reader::Documents(reader) => {
                    (reader.next_chunk(specials, target_len)?, reader.replaced())
                }
            };
            match chunk {
                Some(chunk) => {
                    self.stats.text_bytes += chunk.text.len() as u64;
                    return Ok(Some(chunk));
                }
                None => {
                    self.stats.replaced += replaced;
                    self.current = None;
                }
            }
        }
    }

    fn open_file(&self, file: &InputFile) -> Result<Reader, InputError> {
        let options = &self.options;
        Ok(match file.format {
            Format::Text => {
                let bytes = file.open(&self.file_bytes)?;
                Reader::Text(TextReader::new(file.path.clone(), bytes, options))
            }
            Format::Jsonl => {
                let bytes = file.open(&self.file_bytes)?;
                Reader::Documents(Documents::new(Box::new(jsonl::JsonLines::new(
                    file.path.clone(),
                    bytes,
                    options,
                ))))
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Reader::Documents(Documents::new(Box::new(
                parquet::ParquetText::open(&file.path, options, &self.file_bytes)?,
            ))),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                return Err(InputError::NoParquet {
                    path: file.path.clone(),
                });
            }
        })
    }
}
