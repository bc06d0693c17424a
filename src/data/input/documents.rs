//! Documents gathered into chunks, and long ones cut.

use super::{Chunk, InputError};
use crate::data::tokenizer::Specials;

/// Documents one after another.
pub(super) trait DocumentReader: Send {
    /// The next document, or `None` at the end.
    fn next_document(&mut self) -> Result<Option<String>, InputError>;

    /// Sequences of bytes that were replaced so far.
    fn replaced(&self) -> u64;
}

/// The documents of one file, as chunks.
pub(super) struct Documents {
    reader: Box<dyn DocumentReader>,
    /// A document that is longer than a chunk, and what of it is given out.
    rest: Option<(String, usize)>,
}

impl Documents {
    pub(super) fn new(reader: Box<dyn DocumentReader>) -> Self {
        Self { reader, rest: None }
    }

    pub(super) fn replaced(&self) -> u64 {
        self.reader.replaced()
    }

    /// The next chunk, or `None` at the end.
    pub(super) fn next_chunk(
        &mut self,
        specials: &Specials,
        target_len: usize,
    ) -> Result<Option<Chunk>, InputError> {
        let mut chunk = Chunk::default();
        while chunk.text.len() < target_len {
            let (whole, from) = match self.rest.take() {
                Some(rest) => rest,
                None => match self.reader.next_document()? {
                    Some(document) => (document, 0),
                    None => break,
                },
            };
            let document = &whole[from..];
            let room = target_len - chunk.text.len();
            // A document is not cut for less than a chunk, since most fit.
            let cut = if document.len() > room + target_len {
                specials.next_cut(document, room, true)
            } else {
                None
            };
            if let Some(cut) = cut {
                chunk.text.push_str(&document[..cut]);
                self.rest = Some((whole, from + cut));
                return Ok(Some(chunk));
            }
            chunk.text.push_str(document);
            chunk.ends.push(chunk.text.len());
        }
        Ok((!chunk.ends.is_empty()).then_some(chunk))
    }
}
