//! A tokenizer as GGUF files have it: the values of the keys `tokenizer.ggml.*`, as plain data.
//!
//! The keys and kinds of tokens are those of GGUF's specification (`docs/gguf.md` of ggml).

mod names;

use std::path::Path;

use super::formats::{self, Entry, Kind, Merges, Vocabulary};
use super::{TokenRoles, Tokenizer, TokenizerError, alphabet};

/// Kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// What a GGUF file says of its tokenizer, each field under the key in its description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GgufTokenizer {
    /// `tokenizer.ggml.model`: `gpt2` is byte-level BPE.
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut into pre-tokens.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by id: text in GPT-2's alphabet, special tokens as they are.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id: 1 is text, 3 a control token, 4 one that a user
    /// defined, 5 unused. Without any, all are text.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: two tokens with a space between.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn, and a text too.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: ends a message, and a text too.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

impl GgufTokenizer {
    /// Writes down a tokenizer and the roles of its tokens. GGUF has places for three tokens that
    /// end a text; more are left out. It cannot say which special tokens are looked for after
    /// others: all are found in texts as they are written.
    ///
    /// # Errors
    ///
    /// If no name stands for the tokenizer's rules, or a role is that of an id that is no token.
    pub fn new(tokenizer: &Tokenizer, roles: &TokenRoles) -> Result<Self, TokenizerError> {
        formats::check_roles(tokenizer, roles)?;
        let rules = tokenizer.specials().rules();
        let Some(pre) = names::of_rules(rules) else {
            let what = format!(
                "text is cut as by {}, {}normalised, with merges {}",
                rules.split.name(),
                if rules.normalizes { "" } else { "not " },
                if rules.ignores_merges {
                    "ignored"
                } else {
                    "alone"
                },
            );
            let format = "GGUF";
            return Err(TokenizerError::Inexpressible { format, what });
        };
        let mut token_types = vec![NORMAL; tokenizer.vocab_size()];
        let mut set = |id: u32, kind: i32| token_types[super::index(id)] = kind;
        for token in tokenizer.special_tokens() {
            set(
                token.id,
                if token.is_control {
                    CONTROL
                } else {
                    USER_DEFINED
                },
            );
        }
        for &(id, _) in tokenizer.unused_tokens() {
            set(id, UNUSED);
        }
        let tokens = formats::texts(tokenizer);
        let mut eos = roles.eos.iter().copied();
        Ok(Self {
            model: names::MODEL.to_owned(),
            pre: pre.to_owned(),
            merges: formats::merge_lines(tokenizer, &tokens).collect(),
            tokens,
            token_types,
            bos: roles.bos,
            eos: eos.next(),
            eot: eos.next(),
            eom: eos.next(),
            padding: roles.pad,
            unknown: roles.unknown,
            // The name may stand for another answer where there is none.
            add_bos: Some(roles.add_bos.unwrap_or(false)),
            chat_template: roles.chat_template.clone(),
        })
    }

    /// The tokenizer, and the roles of its tokens, of the file at `path`.
    ///
    /// Control and user-defined tokens are found in texts, and no others, even where no merge
    /// makes them. Unused ones stand for no text.
    ///
    /// # Errors
    ///
    /// If the tokenizer contradicts itself, or is one that is not supported; the error names
    /// `path`, and the first offending entry.
    pub fn tokenizer(&self, path: &Path) -> Result<(Tokenizer, TokenRoles), TokenizerError> {
        let rules =
            names::rules(&self.model, &self.pre).map_err(|what| TokenizerError::Unsupported {
                path: path.to_owned(),
                what,
            })?;
        let problem = |entry: String, problem: String| TokenizerError::Entry {
            path: path.to_owned(),
            entry,
            problem,
        };
        let (n_tokens, n_types) = (self.tokens.len(), self.token_types.len());
        if n_types != 0 && n_types != n_tokens {
            let entry = "tokenizer.ggml.token_type".to_owned();
            return Err(problem(
                entry,
                format!("has {n_types} kinds, expected {n_tokens}"),
            ));
        }
        let mut entries = Vec::with_capacity(n_tokens);
        for (id, text) in (0u32..).zip(&self.tokens) {
            let token_type = self.token_types.get(super::index(id)).copied();
            entries.push(
                entry(id, text, token_type.unwrap_or(NORMAL))
                    .map_err(|what| problem(format!("token {text:?} of id {id}"), what))?,
            );
        }
        let vocabulary = Vocabulary::of_kinds(path.to_owned(), entries)?;
        let mut merges = Merges::default();
        for (merge_idx, line) in self.merges.iter().enumerate() {
            formats::push_line(&mut merges, &vocabulary, line)
                .map_err(|what| problem(format!("merge {merge_idx}, {line:?},"), what))?;
        }
        let n_ids = vocabulary.len();
        let tokenizer = vocabulary.tokenizer(merges, rules)?;
        let roles = self.roles();
        if let Some((role, id)) = roles.ids().find(|&(_, id)| super::index(id) >= n_ids) {
            let what = format!("is id {id}, which is no id of {n_ids} tokens");
            return Err(problem(role.to_owned(), what));
        }
        Ok((tokenizer, roles))
    }

    fn roles(&self) -> TokenRoles {
        let adds_by_name = names::add_bos(&self.pre);
        let mut roles = TokenRoles {
            bos: self.bos,
            eos: Vec::new(),
            pad: self.padding,
            unknown: self.unknown,
            add_bos: self.add_bos.or(adds_by_name.then_some(true)),
            chat_template: self.chat_template.clone(),
        };
        for id in [self.eos, self.eot, self.eom].into_iter().flatten() {
            roles.add_eos(id);
        }
        roles
    }
}

/// A token with its kind, or what is wrong with it.
fn entry(id: u32, text: &str, token_type: i32) -> Result<Entry, String> {
    let kind = match token_type {
        NORMAL => Kind::Normal,
        CONTROL | UNKNOWN | USER_DEFINED => Kind::Special {
            is_control: token_type != USER_DEFINED,
            is_normalized: false,
        },
        UNUSED => Kind::Unused,
        6 => {
            return Err(
                "has kind 6, a byte to fall back to, which byte-level BPE has not".to_owned(),
            );
        }
        other => return Err(format!("has kind {other}, expected one of 1 to 5")),
    };
    // A special token is its own text, and only ASCII is the same in the alphabet of bytes.
    let learnt = match kind {
        Kind::Unused => None,
        Kind::Special { .. } if !text.is_ascii() => None,
        _ => alphabet::bytes_from_text(text),
    };
    Ok(Entry {
        learnt,
        kind,
        ..Entry::in_alphabet(text.to_owned(), id)
    })
}
