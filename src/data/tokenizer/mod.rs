//! Byte-level byte-pair encoding: text to token ids and back.
//!
//! Sennrich, Haddow and Birch 2016 ("Neural Machine Translation of Rare Words with Subword
//! Units"), over bytes and with the pre-tokens of Radford et al. 2019 (GPT-2), or with those of
//! models that came later.

use std::path::Path;

use rustc_hash::FxHashMap;

mod alphabet;
mod cache;
mod classes;
mod counts;
mod encode;
mod error;
mod finder;
mod formats;
mod gguf;
mod hash;
mod merge;
mod normalize;
mod pairs;
mod parts;
mod pieces;
mod roles;
mod rules;
mod short_key;
mod specials;
mod split;
pub mod train;

pub use encode::{Encoder, EncoderPool};
pub use error::TokenizerError;
pub use formats::Format;
pub use gguf::GgufTokenizer;
pub use roles::TokenRoles;
pub use rules::SpecialToken;
pub use specials::Specials;
pub use split::Split;

use parts::Parts;

/// The token between documents, where a vocabulary has it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Number of tokens that every learnt vocabulary has: one a byte.
const MIN_LEARNT: usize = 256;

/// Stands for the token of a byte that has none.
const NO_TOKEN: u32 = u32::MAX;

/// About how many bytes one thread counts or encodes at a time.
pub(super) const CHUNK_LEN: usize = 1 << 19;

/// A vocabulary with the merges that made it, and the rules by which text is cut before them.
///
/// Its tokens are bytes, the product of each merge, and special tokens, which stand for
/// themselves. Models from elsewhere may have others: tokens that no merge makes, which are
/// decoded and never encoded to, and ids without a text, which are decoded to nothing. Ids count
/// from 0 without gaps.
#[derive(Debug)]
pub struct Tokenizer {
    /// Put before a prompt, but not before other texts.
    prompt_prefix: Option<u32>,
    /// Bytes of each token, by id.
    tokens: Vec<Box<[u8]>>,
    /// The other way round, where a special token has the bytes of another one, the other one's.
    ids: FxHashMap<Box<[u8]>, u32>,
    /// Id of each byte's token, or [`NO_TOKEN`].
    byte_ids: [u32; 256],
    /// In the order in which they were learnt.
    merges: Vec<Merge>,
    /// Index into `merges` by left and right part.
    ranks: FxHashMap<(u32, u32), u32>,
    /// Whether each merge joins tokens that only merges of lower ranks make, so that a merge never
    /// brings about one of a lower rank. It does not where several merges make one token.
    merges_rise: bool,
    specials: Specials,
    /// Ids that stand for no text, and their names, by rising ids.
    unused: Vec<(u32, String)>,
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

    /// [`Tokenizer::load`], and the roles of its tokens as the files beside it tell them.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::load_with`] and [`TokenRoles::load`].
    pub fn load_with_roles(path: &Path) -> Result<(Self, TokenRoles), TokenizerError> {
        let tokenizer = Self::load(path)?;
        let roles = TokenRoles::load(path, &tokenizer)?;
        Ok((tokenizer, roles))
    }

    /// Reads a tokenizer from the folder or file at `path`, of the given format or of whichever is
    /// there. Where a folder has several, they have to agree.
    ///
    /// Where a format does not name its special tokens, those that are neither a byte nor the
    /// product of a merge are taken for it. `special_tokens` are those of a format that has no
    /// place for them.
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

    /// [`Tokenizer::save_with`] where `dir` holds another tokenizer, whose files are removed first, or none.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed, and as there.
    pub fn replace_with(
        &self,
        format: Format,
        dir: &Path,
        roles: &TokenRoles,
    ) -> Result<(), TokenizerError> {
        let is_this =
            |(found, its): (Self, TokenRoles)| found.hash() == self.hash() && its == *roles;
        if Self::load_with_roles(dir).is_ok_and(is_this) {
            return Ok(());
        }
        formats::remove(dir)?;
        self.save_with(format, dir, roles)
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

    /// Writes the files of a format into the directory `dir`, which is made if needed; the roles
    /// of tokens are [`TokenRoles::of`] this tokenizer.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::save`], or if the format cannot describe this tokenizer.
    pub fn save_as(&self, format: Format, dir: &Path) -> Result<(), TokenizerError> {
        self.save_with(format, dir, &TokenRoles::of(self))
    }

    /// The same with the roles of tokens and the chat template, for which only
    /// [`Format::HuggingFace`] has a place.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::save_as`], or if a role is that of an id outside the vocabulary.
    pub fn save_with(
        &self,
        format: Format,
        dir: &Path,
        roles: &TokenRoles,
    ) -> Result<(), TokenizerError> {
        formats::save(self, roles, format, dir)
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

    /// Makes prompts begin as `roles` say that a model's do.
    pub fn with_prompts_of(self, roles: &TokenRoles) -> Self {
        let adds_bos = roles.add_bos == Some(true);
        Self {
            prompt_prefix: roles.bos.filter(|_| adds_bos),
            ..self
        }
    }

    /// [`Tokenizer::encode`] of a prompt, behind the token that a model's texts begin with, where its files ask for
    /// it.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let prefix = self.prompt_prefix.into_iter();
        prefix.chain(self.encode(text)).collect()
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

    /// How texts are cut into pre-tokens.
    pub fn split(&self) -> Split {
        self.specials.rules().split
    }

    /// Whether texts become Unicode's normal form C before they are cut, so that decoding gives
    /// back that form of them.
    pub fn normalizes(&self) -> bool {
        self.specials.rules().normalizes
    }

    /// Whether a pre-token that is in the vocabulary is taken as it is, whatever merges would make
    /// of it.
    pub fn ignores_merges(&self) -> bool {
        self.specials.rules().ignores_merges
    }

    /// Bytes that have no token; they are left out where a text has them, as by other programs.
    pub fn missing_bytes(&self) -> Vec<u8> {
        let is_missing = |&byte: &u8| self.byte_ids[usize::from(byte)] == NO_TOKEN;
        (0..=u8::MAX).filter(is_missing).collect()
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

    /// The id of the token with exactly this text, for example `<|endoftext|>` or ` the`; a special
    /// token comes first.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let special = self
            .special_tokens()
            .iter()
            .find(|token| token.text == text);
        let id = special.map(|token| token.id);
        id.or_else(|| self.ids.get(text.as_bytes()).copied())
    }

    /// The bytes of a token, none for an id that stands for no text, or `None` outside the
    /// vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let token = self.tokens.get(usize::try_from(id).ok()?)?;
        Some(token)
    }

    /// The special tokens, by rising ids.
    pub fn special_tokens(&self) -> &[SpecialToken] {
        self.specials.tokens()
    }

    /// Ids that stand for no text, rising, and the names that a file has for them.
    pub fn unused_tokens(&self) -> &[(u32, String)] {
        &self.unused
    }

    /// Ids of the special tokens, rising.
    pub fn special_ids(&self) -> &[u32] {
        self.specials.ids()
    }
}

/// An id or rank as the index of a table that holds it.
fn index(number: u32) -> usize {
    usize::try_from(number).expect("a table in memory has fewer entries than addresses")
}
