//! Text files to token files: documents are joined by the end-of-text token, and may be dealt out
//! to a training and a validation file.

use std::io::Write;
use std::path::PathBuf;

use super::input::{Chunk, Inputs};
use super::npy::TokenWriter;
use super::stream::{Watch, for_each_chunk};
use super::tokenizer::{EncoderPool, Tokenizer};
use crate::Error;
use crate::random::{Philox, Stream};

/// Where ids go.
pub enum Target<'t> {
    /// Into a token file.
    File(PathBuf),
    /// As decimal numbers, with a space between.
    Text(&'t mut (dyn Write + Send)),
}

/// A part of the documents for a file of its own.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The token file.
    pub path: PathBuf,
    /// The probability that a document goes there, from 0 to 1.
    pub fraction: f64,
    /// Chooses the documents, each by its number alone.
    pub seed: u64,
}

/// What was written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Number of ids.
    pub tokens: u64,
    /// Number of documents that are not empty.
    pub documents: u64,
}

/// Encodes all text of the inputs. A document ends at the end of its file, line or row, and after
/// each token `end_of_text`; that token is put between documents where it does not end one
/// already. Empty documents are left out.
///
/// Gives what was written to the target, and to the validation file. Files take their names once
/// all are written.
///
/// # Errors
///
/// If a file cannot be read or written, or `watch` stops it.
pub fn encode_files(
    tokenizer: &Tokenizer,
    inputs: &mut Inputs,
    end_of_text: Option<u32>,
    (target, validation): (Target<'_>, Option<&Validation>),
    watch: &mut Watch<'_>,
) -> Result<Vec<Written>, Error> {
    let mut outputs = vec![Output::open(target, tokenizer)?];
    let mut split = None;
    if let Some(validation) = validation {
        outputs.push(Output::open(
            Target::File(validation.path.clone()),
            tokenizer,
        )?);
        split = Some((
            Philox::new(validation.seed, Stream::Split),
            validation.fraction,
        ));
    }
    let mut router = Router {
        outputs,
        split,
        end_of_text,
        open: None,
        n_documents: 0,
    };
    let pool = EncoderPool::new(tokenizer);
    for_each_chunk(
        inputs,
        tokenizer.specials(),
        watch,
        |chunk| encode_chunk(chunk, &pool),
        |encoded| router.push(&encoded),
    )?;
    router.finish(&tokenizer.hash())
}

/// The ids of a chunk, and where among them documents end.
struct EncodedChunk {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

fn encode_chunk(chunk: &Chunk, pool: &EncoderPool<'_>) -> EncodedChunk {
    let mut ids = Vec::with_capacity(chunk.text.len() / 3);
    let mut ends = Vec::with_capacity(chunk.ends.len());
    pool.with(|encoder| {
        for (document, is_end) in chunk.documents() {
            encoder.encode(document, &mut ids);
            if is_end {
                ends.push(ids.len());
            }
        }
    });
    EncodedChunk { ids, ends }
}

/// Deals documents out to the outputs.
struct Router<'t> {
    /// The target, and the validation file where there is one.
    outputs: Vec<Output<'t>>,
    split: Option<(Philox, f64)>,
    end_of_text: Option<u32>,
    /// Index of the output that the current document goes to, once it has begun.
    open: Option<usize>,
    n_documents: u64,
}

impl Router<'_> {
    fn push(&mut self, encoded: &EncodedChunk) -> Result<(), Error> {
        let mut start = 0;
        for &end in &encoded.ends {
            self.push_part(&encoded.ids[start..end])?;
            self.end_document(false);
            start = end;
        }
        self.push_part(&encoded.ids[start..])
    }

    /// Ids in which documents end at the end-of-text token alone.
    fn push_part(&mut self, ids: &[u32]) -> Result<(), Error> {
        let Some(end_of_text) = self.end_of_text else {
            return self.push_document(ids);
        };
        for part in ids.split_inclusive(|&id| id == end_of_text) {
            self.push_document(part)?;
            if part.last() == Some(&end_of_text) {
                self.end_document(true);
            }
        }
        Ok(())
    }

    /// Ids of one document.
    fn push_document(&mut self, ids: &[u32]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let output_idx = *self.open.get_or_insert_with(|| match &self.split {
            Some((philox, fraction)) => usize::from(philox.uniform(self.n_documents) < *fraction),
            None => 0,
        });
        let output = &mut self.outputs[output_idx];
        if std::mem::take(&mut output.needs_separator) {
            output.push(self.end_of_text.as_slice())?;
        }
        output.push(ids)
    }

    fn end_document(&mut self, has_separator: bool) {
        if let Some(output_idx) = self.open.take() {
            let output = &mut self.outputs[output_idx];
            output.needs_separator = !has_separator;
            output.written.documents += 1;
            self.n_documents += 1;
        }
    }

    fn finish(self, tokenizer_hash: &str) -> Result<Vec<Written>, Error> {
        let mut outputs = self.outputs;
        for output in &mut outputs {
            if let Sink::File(writer) = &mut output.sink {
                writer.seal()?;
            }
        }
        let finish = |output: Output<'_>| output.finish(tokenizer_hash);
        outputs.into_iter().map(finish).collect()
    }
}

struct Output<'t> {
    sink: Sink<'t>,
    /// Whether the last document ended without an end-of-text token.
    needs_separator: bool,
    written: Written,
}

enum Sink<'t> {
    File(TokenWriter),
    Text(&'t mut (dyn Write + Send)),
}

impl<'t> Output<'t> {
    fn open(target: Target<'t>, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let sink = match target {
            Target::File(path) => Sink::File(TokenWriter::create(&path, tokenizer.vocab_size())?),
            Target::Text(out) => Sink::Text(out),
        };
        Ok(Self {
            sink,
            needs_separator: false,
            written: Written::default(),
        })
    }

    fn push(&mut self, ids: &[u32]) -> Result<(), Error> {
        match &mut self.sink {
            Sink::File(writer) => writer.push(ids)?,
            Sink::Text(out) => {
                let mut text = String::new();
                for (idx, id) in ids.iter().enumerate() {
                    if idx > 0 || self.written.tokens > 0 {
                        text.push(' ');
                    }
                    text.push_str(&id.to_string());
                }
                let written = out.write_all(text.as_bytes());
                written.map_err(crate::error::io("write to", "standard output"))?;
            }
        }
        self.written.tokens += ids.len() as u64;
        Ok(())
    }

    fn finish(self, tokenizer_hash: &str) -> Result<Written, Error> {
        match self.sink {
            Sink::File(writer) => writer.finish_with(tokenizer_hash, self.written.documents)?,
            Sink::Text(out) => {
                let written = out.write_all(b"\n").and_then(|()| out.flush());
                written.map_err(crate::error::io("write to", "standard output"))?;
            }
        }
        Ok(self.written)
    }
}
