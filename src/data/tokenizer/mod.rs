//! Byte-level byte-pair encoding: text to token ids and back.
//!
//! Sennrich, Haddow and Birch 2016 ("Neural Machine Translation of Rare Words with Subword
//! Units"), over bytes and with the pre-tokens of Radford et al. 2019 (GPT-2).

use std::path::Path;

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

mod alphabet;
mod cache;
mod classes;
mod counts;
mod encode;
mod error;
mod formats;
mod merge;
mod pairs;
mod pieces;
mod pretokenize;
mod short_key;
mod specials;
pub mod train;

pub use encode::{Encoder, EncoderPool};
pub use error::TokenizerError;
pub use formats::Format;
pub use specials::Specials;

/// The token between documents, where a vocabulary has it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Number of tokens that every vocabulary has: one a byte.
const MIN_LEARNT: usize = 256;

/// About how many bytes one thread counts or encodes at a time.
pub(super) const CHUNK_LEN: usize = 1 << 19;

/// A vocabulary with the merges that made it.
///
/// Its tokens are the 256 bytes, the product of each merge, and special tokens, which stand for
/// themselves and take part in no merge. Ids count from 0 without gaps.
#[derive(Debug)]
pub struct Tokenizer {
    /// Bytes of each token, by id.
    tokens: Vec<Box<[u8]>>,
    /// The other way round; no two tokens have the same bytes.
    ids: FxHashMap<Box<[u8]>, u32>,
    /// Id of each byte's token.
    byte_ids: [u32; 256],
    /// In the order in which they were learnt.
    merges: Vec<Merge>,
    /// Index into `merges` by left and right part.
    ranks: FxHashMap<(u32, u32), u32>,
    /// Whether each merge joins tokens that only merges of lower ranks make, so that a merge never
    /// brings about one of a lower rank. It does not where several merges make one token.
    merges_rise: bool,
    specials: Specials,
}

/// Two neighbouring tokens and the one that replaces them, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    left: u32,
    right: u32,
    product: u32,
}

impl Tokenizer {
    /// Reads a tokenizer from a folder or file of any [`Format`].
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::load_with`].
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        formats::load(path, None, &[])
    }

    /// Reads a tokenizer from the folder or file at `path`, of the given format or of whichever is
    /// there. Where a folder has several, they have to agree.
    ///
    /// Tokens that are neither a byte nor the product of a merge are taken as special tokens.
    /// `special_tokens` are those of a format that has no place for them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not describe one tokenizer (the error names the file and the
    /// first offending entry), or describes one that is not supported.
    pub fn load_with(
        path: &Path,
        format: Option<Format>,
        special_tokens: &[String],
    ) -> Result<Self, TokenizerError> {
        formats::load(path, format, special_tokens)
    }

    /// Writes `vocab.json` and `merges.txt` into the directory `dir`, which is made if needed.
    ///
    /// Each file is complete or, where this fails, not there.
    ///
    /// # Errors
    ///
    /// If the directory or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        self.save_as(Format::Gpt2, dir)
    }

    /// Writes the files of a format into the directory `dir`, which is made if needed.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::save`], or if the format cannot describe this tokenizer.
    pub fn save_as(&self, format: Format, dir: &Path) -> Result<(), TokenizerError> {
        formats::save(self, format, dir)
    }

    /// The ids of a text, which may hold special tokens: the longest wins.
    ///
    /// Long texts are encoded on all cores; see [`Tokenizer::encode_blocks`] for those whose ids
    /// should not be held at once.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut blocks = self.encode_blocks(text);
        let mut ids = blocks.next().unwrap_or_default();
        for block in blocks {
            ids.extend_from_slice(&block);
        }
        ids
    }

    /// The same ids as [`Tokenizer::encode`], in blocks of some hundred thousand: a few blocks a
    /// core are encoded at once and then handed out in order.
    pub fn encode_blocks<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Vec<u32>> {
        encode::blocks(self, text, CHUNK_LEN)
    }

    /// An encoder for one thread, which remembers the pre-tokens that it has seen.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// The special tokens, and where texts may be cut into chunks that are encoded apart.
    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    /// The bytes of tokens, joined; they need not be UTF-8 where a character's tokens are parted.
    ///
    /// # Errors
    ///
    /// If an id is outside the vocabulary, with its position in `ids`.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for (position, &id) in ids.iter().enumerate() {
            let token = self.token_bytes(id).ok_or(TokenizerError::UnknownId {
                id,
                position: position as u64,
                vocab_size: self.vocab_size(),
            })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// Number of merges.
    pub fn n_merges(&self) -> usize {
        self.merges.len()
    }

    /// The id of the token with exactly this text, for example `<|endoftext|>` or ` the`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.ids.get(text.as_bytes()).copied()
    }

    /// The bytes of a token, or `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let token = self.tokens.get(usize::try_from(id).ok()?)?;
        Some(token)
    }

    /// Ids of the special tokens, rising.
    pub fn special_ids(&self) -> &[u32] {
        self.specials.ids()
    }

    /// SHA-256 of the vocabulary, merges and special tokens as 64 hexadecimal digits.
    ///
    /// Two tokenizers with the same hash encode and decode alike, however their files are laid
    /// out: what is hashed is each token's length and bytes by id, then the number of merges and
    /// their ids, then the ids of the special tokens, all numbers as 64 bits, little end first.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let number = |hasher: &mut Sha256, value: usize| {
            hasher.update((value as u64).to_le_bytes());
        };
        number(&mut hasher, self.tokens.len());
        for token in &self.tokens {
            number(&mut hasher, token.len());
            hasher.update(token);
        }
        number(&mut hasher, self.merges.len());
        for merge in &self.merges {
            for id in [merge.left, merge.right, merge.product] {
                hasher.update(u64::from(id).to_le_bytes());
            }
        }
        for &id in self.special_ids() {
            hasher.update(u64::from(id).to_le_bytes());
        }
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Puts a tokenizer together from parts that are known to fit: all bytes have a token, all
    /// tokens differ, each merge joins bytes or earlier products, and the ids of `specials` rise.
    fn from_parts(tokens: Vec<Box<[u8]>>, merges: Vec<Merge>, specials: &[(u32, String)]) -> Self {
        let ids: FxHashMap<Box<[u8]>, u32> = tokens.iter().cloned().zip(0..).collect();
        let mut byte_ids = [0; 256];
        for byte in 0..=255u8 {
            byte_ids[usize::from(byte)] = ids[&[byte][..]];
        }
        let pairs = merges.iter().map(|merge| (merge.left, merge.right));
        let ranks = pairs.zip(0..).collect();
        let specials = Specials::new(specials);
        Self {
            merges_rise: merges_rise(&merges),
            tokens,
            ids,
            byte_ids,
            merges,
            ranks,
            specials,
        }
    }
}

/// See [`Tokenizer::merges_rise`].
fn merges_rise(merges: &[Merge]) -> bool {
    let made = merges.iter().map(|merge| merge.product);
    let last_made: FxHashMap<u32, usize> = made.zip(0..).collect();
    merges.iter().enumerate().all(|(rank, merge)| {
        let parts = [merge.left, merge.right];
        parts
            .iter()
            .all(|part| last_made.get(part).is_none_or(|&made| made < rank))
    })
}

/// An id or rank as the index of a table that holds it.
fn index(number: u32) -> usize {
    usize::try_from(number).expect("a table in memory has fewer entries than addresses")
}
