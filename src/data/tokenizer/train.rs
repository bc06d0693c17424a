//! Learns a vocabulary: the most frequent pair of tokens is merged, again and again.

use std::ops::ControlFlow;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::alphabet;
use super::counts::{SharedCounts, Word};
use super::pairs::Pairs;
use super::rules::SpecialToken;
use super::specials::Specials;
use super::{CHUNK_LEN, MIN_LEARNT, Merge, Parts, Tokenizer, TokenizerError};

/// Which ids the special tokens get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpecialIds {
    /// The first ones, from 0.
    #[default]
    First,
    /// The last ones, after all merges, as in GPT-2.
    Last,
}

/// What to learn.
#[derive(Debug, Clone, Default)]
pub struct TrainOptions {
    /// Number of tokens wanted: 256 bytes, the special tokens, and one a merge.
    pub vocab_size: usize,
    /// Tokens that are never merged, and at which texts are split.
    pub special_tokens: Vec<String>,
    /// Which ids they get.
    pub special_ids: SpecialIds,
}

/// Learns a tokenizer from texts, each a document of its own; see [`Trainer`].
///
/// # Errors
///
/// Those of [`Trainer::new`] and [`Trainer::finish`].
pub fn train(texts: &[&str], options: &TrainOptions) -> Result<Tokenizer, TokenizerError> {
    let trainer = Trainer::new(options.clone())?;
    texts
        .iter()
        .flat_map(|text| trainer.specials().chunks(text, CHUNK_LEN))
        .par_bridge()
        .for_each(|chunk| trainer.add(chunk));
    trainer.finish()
}

/// Learns a tokenizer from any amount of text, a chunk at a time.
///
/// Ids are given to the bytes in GPT-2's order, then to the merges, and to the special tokens in
/// order before or after these. Of all pairs the most frequent is merged; of equally frequent ones
/// the pair whose left part, then right part, is the greatest as a string of bytes. The result
/// depends on nothing else, such as the number of threads.
#[derive(Debug)]
pub struct Trainer {
    options: TrainOptions,
    specials: Specials,
    counts: SharedCounts,
}

impl Trainer {
    /// Takes what to learn.
    ///
    /// # Errors
    ///
    /// If `vocab_size` cannot hold the bytes and special tokens, or if a special token is empty,
    /// given twice, or written like another token.
    pub fn new(options: TrainOptions) -> Result<Self, TokenizerError> {
        let least = MIN_LEARNT + options.special_tokens.len();
        if options.vocab_size < least || u32::try_from(options.vocab_size).is_err() {
            return Err(TokenizerError::VocabSize {
                requested: options.vocab_size,
                least,
            });
        }
        check_special_tokens(&options.special_tokens)?;
        let specials: Vec<(u32, String)> =
            (0..).zip(options.special_tokens.iter().cloned()).collect();
        Ok(Self {
            options,
            specials: Specials::new(&specials),
            counts: SharedCounts::new(),
        })
    }

    /// Where texts may be cut into the chunks that [`Trainer::add`] takes.
    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    /// Counts a document, or a part of one that was cut where [`Trainer::specials`] allows it.
    /// Any number of threads may do so at once, in any order.
    pub fn add(&self, chunk: &str) {
        self.counts.add(chunk, &self.specials);
    }

    /// Learns the merges. Where no pair is left before `vocab_size` is reached, the vocabulary is
    /// smaller, and a warning says so.
    ///
    /// # Errors
    ///
    /// If a special token is written like a learnt one, or the distinct pre-tokens together have
    /// 4 GiB or more.
    pub fn finish(self) -> Result<Tokenizer, TokenizerError> {
        self.finish_watched(&mut |_| ControlFlow::Continue(()))
    }

    /// The same, telling `watch` the number of tokens before each merge.
    ///
    /// # Errors
    ///
    /// Those of [`Trainer::finish`], or [`TokenizerError::Stopped`] where `watch` stops it.
    pub fn finish_watched(
        self,
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Tokenizer, TokenizerError> {
        let special_tokens = &self.options.special_tokens;
        let words = self.counts.into_words();
        let are_last = self.options.special_ids == SpecialIds::Last;
        let mut vocabulary = Vocabulary::new(if are_last { &[] } else { special_tokens });
        let room = if are_last { special_tokens.len() } else { 0 };
        let merges = learn_merges(
            &mut vocabulary,
            words,
            self.options.vocab_size - room,
            watch,
        )?;
        check_written_apart(special_tokens, &vocabulary)?;
        let Vocabulary { mut tokens, .. } = vocabulary;
        let first_special = if are_last { tokens.len() } else { 0 };
        if are_last {
            tokens.extend(special_tokens.iter().map(|token| token.as_bytes().into()));
        }
        if tokens.len() < self.options.vocab_size {
            tracing::warn!(
                "the text has no pair left to merge: {} tokens instead of {}",
                tokens.len(),
                self.options.vocab_size
            );
        }
        // At most the vocabulary size, which is a u32.
        let first_special = u32::try_from(first_special).unwrap_or(u32::MAX);
        let specials = (first_special..)
            .zip(special_tokens)
            .map(|(id, token)| SpecialToken::control(id, token.clone()));
        Ok(Tokenizer::from_parts(Parts {
            tokens,
            merges,
            specials: specials.collect(),
            ..Parts::default()
        }))
    }
}

/// The tokens learnt so far.
struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
    /// Ids of the bytes and products.
    ids: FxHashMap<Box<[u8]>, u32>,
}

impl Vocabulary {
    fn new(special_tokens: &[String]) -> Self {
        let mut vocabulary = Self {
            tokens: Vec::new(),
            ids: FxHashMap::default(),
        };
        for token in special_tokens {
            vocabulary.tokens.push(token.as_bytes().into());
        }
        for byte in alphabet::byte_order() {
            vocabulary.id_of(&[byte]);
        }
        vocabulary
    }

    /// The id of the token with these bytes, which is new unless another pair made it before.
    fn id_of(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&id) = self.ids.get(bytes) {
            return id;
        }
        let id = u32::try_from(self.tokens.len()).expect("the vocabulary size is a u32");
        self.tokens.push(bytes.into());
        self.ids.insert(bytes.into(), id);
        id
    }
}

fn learn_merges(
    vocabulary: &mut Vocabulary,
    words: Vec<Word>,
    vocab_size: usize,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Merge>, TokenizerError> {
    let byte_ids = std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("256 bytes");
        vocabulary.ids[&[byte][..]]
    });
    let n_words = words.len();
    let pairs = Pairs::new(words, &vocabulary.tokens, &byte_ids);
    let mut pairs = pairs.ok_or(TokenizerError::TooManyWords { n_words })?;
    let mut merges = Vec::new();
    while vocabulary.tokens.len() < vocab_size {
        if watch(vocabulary.tokens.len()).is_break() {
            return Err(TokenizerError::Stopped);
        }
        let Some((left, right)) = pairs.pop_most_frequent() else {
            break;
        };
        let product = vocabulary.id_of(&pairs.joined_bytes(left, right));
        let merge = Merge {
            left,
            right,
            product,
        };
        pairs.apply(merge);
        merges.push(merge);
    }
    Ok(merges)
}

fn check_special_tokens(special_tokens: &[String]) -> Result<(), TokenizerError> {
    for (index, token) in special_tokens.iter().enumerate() {
        let problem = if token.is_empty() {
            "is empty"
        } else if special_tokens[..index].contains(token) {
            "is given twice"
        } else if token.len() == 1
            || alphabet::bytes_from_text(token).is_some_and(|bytes| bytes.len() == 1)
        {
            "is the token of a byte"
        } else {
            continue;
        };
        return Err(TokenizerError::SpecialToken {
            token: token.clone(),
            problem,
        });
    }
    Ok(())
}

/// Refuses a special token that `vocab.json` would write like a learnt one.
fn check_written_apart(
    special_tokens: &[String],
    vocabulary: &Vocabulary,
) -> Result<(), TokenizerError> {
    let is_learnt = |token: &&String| {
        alphabet::bytes_from_text(token)
            .is_some_and(|bytes| vocabulary.ids.contains_key(&bytes[..]))
    };
    match special_tokens.iter().find(is_learnt) {
        None => Ok(()),
        Some(token) => Err(TokenizerError::SpecialToken {
            token: token.clone(),
            problem: "is written like a token learnt from the text",
        }),
    }
}
