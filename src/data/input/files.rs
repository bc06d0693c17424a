//! Which files there are to read, what they hold, and their bytes out of their compression.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::InputError;

/// Bytes that are read from a file at a time.
const READ_LEN: usize = 1 << 17;

/// The bytes of a file, decompressed.
pub(super) type Bytes = Box<dyn Read + Send>;

/// How text lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Jsonl,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    packing: Packing,
    /// Bytes on disk, or `None` for a pipe.
    pub(super) size_bytes: Option<u64>,
}

/// The files of some paths and patterns, in order; those of a pattern by name.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<InputFile>, InputError> {
    let mut files = Vec::new();
    for path in paths {
        if is_stdin(path) || path.exists() || !is_pattern(path) {
            files.push(InputFile::new(path)?);
            continue;
        }
        let problem = |reason: String| InputError::Pattern {
            pattern: path.clone(),
            reason,
        };
        let pattern = path
            .to_str()
            .ok_or_else(|| problem("it is no UTF-8".to_owned()))?;
        let matches = glob::glob(pattern).map_err(|error| problem(error.to_string()))?;
        let before = files.len();
        for found in matches {
            let found = found.map_err(|error| {
                unreadable(error.path())(io::Error::other(error.error().to_string()))
            })?;
            if !found.is_dir() {
                files.push(InputFile::new(&found)?);
            }
        }
        if files.len() == before {
            return Err(InputError::NoMatch {
                pattern: path.clone(),
            });
        }
    }
    Ok(files)
}

/// Whether the path stands for standard input.
fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

impl InputFile {
    pub(super) fn new(path: &Path) -> Result<Self, InputError> {
        if is_stdin(path) {
            return Ok(Self {
                path: PathBuf::from("standard input"),
                format: Format::Text,
                packing: Packing::None,
                size_bytes: None,
            });
        }
        let metadata = path.metadata().map_err(unreadable(path))?;
        if metadata.is_dir() {
            return Err(InputError::Directory {
                path: path.to_owned(),
            });
        }
        let name = path.to_string_lossy().to_lowercase();
        let (name, packing) = match name.rsplit_once('.') {
            Some((name, "gz")) => (name, Packing::Gzip),
            Some((name, "zst")) => (name, Packing::Zstd),
            _ => (name.as_str(), Packing::None),
        };
        let format = match name.rsplit_once('.') {
            Some((_, "jsonl" | "ndjson")) => Format::Jsonl,
            Some((_, "parquet")) => Format::Parquet,
            _ => Format::Text,
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            packing,
            size_bytes: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// The file's bytes out of their compression; those read from disk are added to `counter`.
    pub(super) fn open(&self, counter: &Arc<AtomicU64>) -> Result<SourceBytes, InputError> {
        let counter = Arc::clone(counter);
        let file: Bytes = if self.path.as_os_str() == "standard input" {
            Box::new(Counted {
                inner: io::stdin(),
                counter,
            })
        } else {
            let inner = File::open(&self.path).map_err(unreadable(&self.path))?;
            Box::new(Counted { inner, counter })
        };
        let bytes: Bytes = match self.packing {
            Packing::None => file,
            Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                READ_LEN, file,
            ))),
            Packing::Zstd => Box::new(Frames::new(BufReader::with_capacity(READ_LEN, file))),
        };
        Ok(SourceBytes {
            bytes,
            is_packed: self.packing != Packing::None,
        })
    }
}

/// The bytes of an open file.
pub(super) struct SourceBytes {
    bytes: Bytes,
    /// Whether they were compressed.
    pub(super) is_packed: bool,
}

impl SourceBytes {
    /// Bytes without a file.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: Box::new(io::Cursor::new(bytes.to_vec())),
            is_packed: false,
        }
    }

    /// What to do about bytes that cannot be read.
    pub(super) fn remedy(&self) -> &'static str {
        if self.is_packed {
            "copy or download the file again"
        } else {
            "check the disk"
        }
    }
}

impl Read for SourceBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> InputError {
    let path = path.to_owned();
    move |cause| InputError::Read {
        path,
        cause,
        remedy: "check that the file exists and may be read",
    }
}

/// Adds the bytes that go through to a counter.
struct Counted<R> {
    inner: R,
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.counter.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// All frames of a zstd file, one after another, as `cat` and parallel compressors write them.
struct Frames<R: io::BufRead> {
    state: Option<FrameState<R>>,
}

enum FrameState<R: io::BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
}

impl<R: io::BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Self {
            state: Some(FrameState::Between(source)),
        }
    }
}

impl<R: io::BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut decoder = match self.state.take() {
                None => return Ok(0),
                Some(FrameState::Between(mut source)) => {
                    if source.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    Box::new(StreamingDecoder::new(source).map_err(io::Error::other)?)
                }
                Some(FrameState::Within(decoder)) => decoder,
            };
            let len = decoder.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                self.state = Some(FrameState::Within(decoder));
                return Ok(len);
            }
            self.state = Some(FrameState::Between(decoder.into_inner()));
        }
    }
}
