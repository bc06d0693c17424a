//! Text to ids: pre-tokens are merged by rank, and remembered.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::Tokenizer;
use super::cache::Cache;
use super::finder::Part;
use super::merge::{Scratch, merge};
use super::short_key::ShortKey;

/// Encodes texts one after another on one thread.
#[derive(Debug)]
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    cache: Cache,
    scratch: Scratch,
}

impl<'t> Encoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            cache: Cache::new(),
            scratch: Scratch::default(),
        }
    }

    /// Appends the ids of `text` to `out`; special tokens are recognised, the longest wins.
    pub fn encode(&mut self, text: &str, out: &mut Vec<u32>) {
        self.encode_bytes(text.as_bytes(), out);
    }

    /// The same for any bytes. Those that are no UTF-8 count as neither letters, numbers nor white
    /// space.
    pub fn encode_bytes(&mut self, text: &[u8], out: &mut Vec<u32>) {
        self.tokenizer
            .specials
            .for_each_part(text, |part| match part {
                Part::Special(id) => out.push(id),
                Part::Text(text) => self.encode_ordinary(text, out),
            });
    }

    fn encode_ordinary(&mut self, text: &[u8], out: &mut Vec<u32>) {
        let split = self.tokenizer.split();
        split.for_each(text, |len, rest| {
            let is_known =
                ShortKey::new(rest, len).is_some_and(|key| self.cache.append_short(key, out));
            if !is_known {
                self.encode_pretoken(&rest[..len], out);
            }
        });
    }

    #[cold]
    fn encode_pretoken(&mut self, pretoken: &[u8], out: &mut Vec<u32>) {
        if self.cache.append_long(pretoken, out) {
            return;
        }
        let tokenizer = self.tokenizer;
        let whole = if tokenizer.ignores_merges() {
            tokenizer.ids.get(pretoken)
        } else {
            None
        };
        let ids = match whole {
            Some(id) => std::slice::from_ref(id),
            None => merge(tokenizer, pretoken, &mut self.scratch),
        };
        out.extend_from_slice(ids);
        self.cache.insert(pretoken, ids);
    }
}

/// Encoders that wait for work, so that each chunk meets a cache that is warm.
#[derive(Debug)]
pub struct EncoderPool<'t> {
    tokenizer: &'t Tokenizer,
    idle: Mutex<Vec<Encoder<'t>>>,
}

impl<'t> EncoderPool<'t> {
    /// A pool without encoders; they are made as threads ask for them.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            idle: Mutex::default(),
        }
    }

    /// Lends an encoder for as long as `work` takes.
    pub fn with<T>(&self, work: impl FnOnce(&mut Encoder<'t>) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let encoder = idle().pop();
        let mut encoder = encoder.unwrap_or_else(|| self.tokenizer.encoder());
        let result = work(&mut encoder);
        idle().push(encoder);
        result
    }
}

/// The ids of `text`, a block a chunk of about `chunk_len` bytes.
pub(super) fn blocks<'t>(
    tokenizer: &'t Tokenizer,
    text: &'t str,
    chunk_len: usize,
) -> impl Iterator<Item = Vec<u32>> {
    let pool = EncoderPool::new(tokenizer);
    let encode_chunk = move |chunk: &&str| {
        let mut ids = Vec::with_capacity(chunk.len() / 3);
        pool.with(|encoder| encoder.encode(chunk, &mut ids));
        ids
    };
    let mut chunks = tokenizer.specials.chunks(text, chunk_len);
    let batch_len = 4 * rayon::current_num_threads();
    let batches = std::iter::from_fn(move || {
        let batch: Vec<&str> = chunks.by_ref().take(batch_len).collect();
        (!batch.is_empty()).then_some(batch)
    });
    batches.flat_map(move |batch| batch.par_iter().map(&encode_chunk).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::train::{TrainOptions, train};
    use super::*;

    #[test]
    fn parallel_encoding_equals_serial_for_every_chunk_length() {
        let text = "a cat, the cat <|e|>and  the\n\nmat<|e|><|e|> ".repeat(20);
        let options = TrainOptions {
            vocab_size: 280,
            special_tokens: vec!["<|e|>".to_owned()],
            ..TrainOptions::default()
        };
        let tokenizer = train(&[&text], &options).unwrap();
        let piece = "[a-c]{1,4}|(<\\|e\\|>){1,3}|[ \n\u{3000}]{1,3}|'(s|ll)?|[0-9!日👍]|<\\|";
        let text = proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
        proptest!(|(text in text, chunk_len in 1..60usize)| {
            let mut serial = Vec::new();
            tokenizer.encoder().encode(&text, &mut serial);
            let parallel: Vec<u32> = blocks(&tokenizer, &text, chunk_len).flatten().collect();
            prop_assert_eq!(parallel, serial, "chunks of {} bytes of {:?}", chunk_len, text);
        });
    }
}
