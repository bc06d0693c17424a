//! A text file of any length in chunks.

use std::io::Read;
use std::path::PathBuf;

use super::files::SourceBytes;
use super::utf8::Utf8Decoder;
use super::{Chunk, InputError, InputOptions};
use crate::data::tokenizer::Specials;

/// Text beyond a chunk's length among which its end is looked for first.
const SLACK: usize = 1 << 12;
/// Bytes that are read at a time at most.
const MOST_READ: usize = 1 << 20;

/// A text file that is one document.
pub(super) struct TextReader {
    path: PathBuf,
    bytes: SourceBytes,
    decoder: Utf8Decoder,
    /// Text that is read and not given out.
    text: String,
    /// Room for what is read at a time.
    block: Vec<u8>,
    /// Bytes of text that are given out.
    given: u64,
    max_document_bytes: usize,
    is_at_end: bool,
}

impl TextReader {
    pub(super) fn new(path: PathBuf, bytes: SourceBytes, options: &InputOptions) -> Self {
        Self {
            path,
            bytes,
            decoder: Utf8Decoder::new(options.is_lossy),
            text: String::new(),
            block: Vec::new(),
            given: 0,
            max_document_bytes: options.max_document_bytes,
            is_at_end: false,
        }
    }

    /// Sequences of bytes that were replaced so far.
    pub(super) fn replaced(&self) -> u64 {
        self.decoder.replaced()
    }

    /// The next chunk, or `None` at the end.
    pub(super) fn next_chunk(
        &mut self,
        specials: &Specials,
        target_len: usize,
    ) -> Result<Option<Chunk>, InputError> {
        // A chunk is held in any case.
        let most = self.max_document_bytes.max(target_len + SLACK);
        let mut from = target_len;
        let mut wanted = target_len + SLACK;
        loop {
            self.read_to(wanted)?;
            if self.text.is_empty() {
                return Ok(None);
            }
            if let Some(cut) = specials.next_cut(&self.text, from, self.is_at_end) {
                let after = self.text.split_off(cut);
                let text = std::mem::replace(&mut self.text, after);
                self.given += text.len() as u64;
                return Ok(Some(Chunk {
                    text,
                    ends: Vec::new(),
                }));
            }
            if self.text.len() > most {
                return Err(InputError::TooLong {
                    path: self.path.clone(),
                    what: "text",
                    place: format!("from byte {} on", self.given),
                    limit: self.max_document_bytes,
                    cause: "it has no place where the class of characters changes",
                });
            }
            if self.is_at_end {
                let text = std::mem::take(&mut self.text);
                return Ok(Some(Chunk {
                    ends: vec![text.len()],
                    text,
                }));
            }
            // What was searched has no cut, its end aside, where more text has to tell.
            from = from.max(specials.undecided_from(&self.text));
            wanted = (self.text.len() * 2).min(most + 1);
        }
    }

    /// Reads until there are `wanted` bytes of text, or the file ends.
    fn read_to(&mut self, wanted: usize) -> Result<(), InputError> {
        while self.text.len() < wanted && !self.is_at_end {
            let len = (wanted - self.text.len()).clamp(SLACK, MOST_READ);
            self.block.resize(len, 0);
            let len = loop {
                match self.bytes.read(&mut self.block) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Ok(len) => break len,
                    Err(cause) => {
                        return Err(InputError::Read {
                            path: self.path.clone(),
                            cause,
                            remedy: self.bytes.remedy(),
                        });
                    }
                }
            };
            self.is_at_end = len == 0;
            self.decoder
                .push(&self.block[..len], self.is_at_end, &mut self.text)
                .map_err(|invalid| InputError::Utf8 {
                    path: self.path.clone(),
                    offset: invalid.offset,
                    is_packed: self.bytes.is_packed,
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &[u8], target_len: usize) -> Vec<Chunk> {
        let specials = Specials::new(&[(0, "<|endoftext|>".to_owned())]);
        let options = InputOptions::default();
        let mut reader = TextReader::new("text".into(), SourceBytes::of(text), &options);
        let next = || reader.next_chunk(&specials, target_len).unwrap();
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn chunks_are_the_text_and_of_bounded_length() {
        let words = "a cat, the mat<|endoftext|>日本語、テスト 12 ".repeat(2_000);
        let no_spaces = "ab12,".repeat(20_000);
        for text in [&words, &no_spaces] {
            for target_len in [1, 100, 5_000, 1_000_000] {
                let found = chunks(text.as_bytes(), target_len);
                let joined: String = found.iter().map(|chunk| &chunk.text[..]).collect();
                assert!(joined == **text, "target {target_len}");
                let longest = found.iter().map(|chunk| chunk.text.len()).max();
                assert!(
                    longest < Some(target_len + 40),
                    "{longest:?} of {target_len}"
                );
                let ends: Vec<usize> = found.iter().flat_map(|chunk| chunk.ends.clone()).collect();
                assert_eq!(ends, [found[found.len() - 1].text.len()]);
            }
        }
    }

    #[test]
    fn a_run_without_cuts_is_one_chunk() {
        for text in ["a".repeat(50_000), " ".repeat(50_000), "日".repeat(50_000)] {
            assert_eq!(chunks(text.as_bytes(), 100).len(), 1);
        }
        assert_eq!(chunks(b"", 100), []);
    }
}
