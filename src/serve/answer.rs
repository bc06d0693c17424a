//! The answers to a completions request, whole and in parts.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use serde_json::{Map, Value, json};

use super::choice::{Piece, ScoredToken};
use super::model::{ServedModel, seconds_since_1970};
use crate::data::tokenizer::Tokenizer;

/// What all parts of an answer have in common.
pub(super) struct Answer {
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    generated: usize,
}

impl Answer {
    pub(super) fn new(model: &ServedModel, prompt_tokens: usize) -> Self {
        Self {
            id: format!("cmpl-{:016x}{:016x}", random(), random()),
            created: seconds_since_1970(),
            model: model.name.clone(),
            prompt_tokens,
            generated: 0,
        }
    }

    /// Counts a piece's tokens.
    pub(super) fn count(&mut self, piece: &Piece) {
        self.generated += piece.generated;
    }

    /// The answer with these choices.
    pub(super) fn with(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    /// Tokens so far; prompts count once, whatever the number of samples.
    pub(super) fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt_tokens + self.generated,
        })
    }
}

/// Adds a piece to the one that it follows.
pub(super) fn join(choices: &mut BTreeMap<usize, Piece>, piece: Piece) {
    match choices.entry(piece.index) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(piece);
        }
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            let whole = entry.get_mut();
            whole.text += &piece.text;
            whole.tokens.extend(piece.tokens);
            whole.finish = piece.finish;
        }
    }
}

/// A choice, or a part of one; `top` are the likeliest tokens that were asked for.
pub(super) fn choice(piece: &Piece, top: Option<usize>, tokenizer: &Tokenizer) -> Value {
    json!({
        "text": piece.text,
        "index": piece.index,
        "logprobs": top.map(|top| logprobs(&piece.tokens, top, tokenizer)),
        "finish_reason": piece.finish,
    })
}

fn logprobs(tokens: &[ScoredToken], top: usize, tokenizer: &Tokenizer) -> Value {
    let name = |id| token_text(tokenizer.token_bytes(id).unwrap_or_default());
    let likeliest = |token: &ScoredToken| {
        let scores = token.scores.as_ref()?;
        let mut map = Map::new();
        for &(id, logprob) in scores.top.iter().take(top) {
            map.insert(name(id), number(logprob));
        }
        // The token itself is always there, so that there may be one more than was asked for.
        map.insert(name(token.id), number(scores.logprob));
        Some(Value::Object(map))
    };
    let column = |of: &dyn Fn(&ScoredToken) -> Value| tokens.iter().map(of).collect::<Vec<_>>();
    json!({
        "tokens": column(&|token| name(token.id).into()),
        "token_logprobs": column(&|token| token.scores.as_ref().map(|s| number(s.logprob)).into()),
        "top_logprobs": column(&|token| likeliest(token).into()),
        "text_offset": column(&|token| token.offset.into()),
        "token_ids": column(&|token| token.id.into()),
    })
}

/// A log-probability; minus infinity, which JSON does not have, is the number that OpenAI's API gives for
/// it.
fn number(logprob: f32) -> Value {
    const IMPOSSIBLE: f32 = -9999.0;
    logprob.max(IMPOSSIBLE).into()
}

/// A token's text, or its bytes where it is part of a character.
pub(super) fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| {
            text + &format!("\\x{byte:02x}")
        }),
    }
}

/// A number that no one foresees, from the system's source of them.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_no_text_are_given_as_bytes() {
        assert_eq!(token_text("né".as_bytes()), "né");
        assert_eq!(token_text(b"\xc3"), "bytes:\\xc3");
        assert_eq!(token_text(b"a\xf0\x9f"), "bytes:\\x61\\xf0\\x9f");
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }

    #[test]
    fn an_impossible_token_has_a_number_too() {
        assert_eq!(number(f32::NEG_INFINITY), json!(-9999.0));
        assert_eq!(number(-0.5), json!(-0.5));
    }
}
