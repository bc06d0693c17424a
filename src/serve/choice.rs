//! One choice of an answer: what happens to its sequence becomes text, with log-probabilities where they
//! were asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fields::Completion;
use super::prompt::{Prompt, text_of};
use crate::data::tokenizer::Tokenizer;
use crate::decode::{DecodeError, Event, Finish, TextStream, TokenLogprobs};

/// A next part of a choice, all of it certain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// Which choice.
    pub(super) index: usize,
    pub(super) text: String,
    /// The tokens that the text is made of, where log-probabilities were asked for.
    pub(super) tokens: Vec<ScoredToken>,
    /// New tokens that were drawn since the last piece.
    pub(super) generated: usize,
    /// Why the choice ends with it, if it does.
    pub(super) finish: Option<&'static str>,
}

/// A token and its log-probability in nats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScoredToken {
    pub(super) id: u32,
    /// Characters of the choice's text before it.
    pub(super) offset: usize,
    /// None of a prompt's first token, which follows nothing.
    pub(super) scores: Option<TokenLogprobs>,
}

/// A choice that is being generated.
pub(super) struct Choice {
    index: usize,
    tokenizer: Arc<Tokenizer>,
    ends: Vec<u32>,
    wants_logprobs: bool,
    /// What is to be shown before the new tokens and was not yet.
    echo: Option<Prompt>,
    stream: TextStream,
    counter: CharCounter,
    /// Characters of text that were given out.
    given: usize,
    /// Tokens whose text was not given out.
    pending: VecDeque<ScoredToken>,
    ended: bool,
}

impl Choice {
    /// The choice `index` of a request, which goes on from `prompt`; each token of `ends` ends it.
    pub(super) fn new(
        index: usize,
        request: &Completion,
        prompt: &Prompt,
        tokenizer: &Arc<Tokenizer>,
        ends: &[u32],
    ) -> Self {
        Self {
            index,
            tokenizer: tokenizer.clone(),
            ends: ends.to_vec(),
            wants_logprobs: request.logprobs.is_some(),
            echo: request.echo.then(|| prompt.clone()),
            stream: TextStream::new(tokenizer.clone(), &request.stop),
            counter: CharCounter::default(),
            given: 0,
            pending: VecDeque::new(),
            ended: false,
        }
    }

    /// Whether its last piece was given.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What an event adds.
    ///
    /// # Errors
    /// When the sequence failed, or log-probabilities are missing.
    pub(super) fn take(&mut self, event: Event) -> Result<Piece, String> {
        let mut piece = Piece {
            index: self.index,
            ..Piece::default()
        };
        match event {
            Event::Prompt(scores) => self.show_prompt(scores, &mut piece)?,
            Event::Token(token) => {
                self.show_prompt(Vec::new(), &mut piece)?;
                piece.generated = 1;
                if self.wants_logprobs {
                    let scores = token.logprobs.ok_or(NO_LOGPROBS)?;
                    self.note(token.id, Some(scores));
                }
                if self.ends.contains(&token.id) {
                    piece.text += &self.stream.finish();
                    self.end_with("stop", &mut piece);
                } else {
                    let text = self.stream.push(token.id);
                    piece.text += &text.map_err(|error| error.to_string())?;
                    if self.stream.is_stopped() {
                        self.end_with("stop", &mut piece);
                    }
                }
            }
            Event::Finished(finish) => {
                self.show_prompt(Vec::new(), &mut piece)?;
                piece.text += &self.stream.finish();
                let reason = match finish {
                    Finish::End => "stop",
                    Finish::Length | Finish::Context => "length",
                };
                self.end_with(reason, &mut piece);
            }
            Event::Failed(fault) => return Err(DecodeError::from(fault).to_string()),
        }
        self.release(&mut piece);
        Ok(piece)
    }

    /// Begins with the prompt, if it is to be echoed and was not yet.
    fn show_prompt(&mut self, scores: Vec<TokenLogprobs>, piece: &mut Piece) -> Result<(), String> {
        let Some(prompt) = self.echo.take() else {
            return Ok(());
        };
        let shown = prompt.shown();
        piece.text = text_of(shown, &self.tokenizer);
        if self.wants_logprobs {
            if scores.len() + 1 < shown.len() {
                return Err(NO_LOGPROBS.to_owned());
            }
            let scores = std::iter::once(None).chain(scores.into_iter().map(Some));
            for (&id, scores) in shown.iter().zip(scores) {
                self.note(id, scores);
            }
        }
        // The new tokens' text begins with a whole character, whatever the prompt ends with.
        self.counter.cut();
        Ok(())
    }

    fn note(&mut self, id: u32, scores: Option<TokenLogprobs>) {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        let offset = self.counter.push(bytes);
        self.pending.push_back(ScoredToken { id, offset, scores });
    }

    fn end_with(&mut self, reason: &'static str, piece: &mut Piece) {
        self.ended = true;
        piece.finish = Some(reason);
    }

    /// Adds the tokens whose text is in what was given out; those of a stop string are in none.
    fn release(&mut self, piece: &mut Piece) {
        if self.wants_logprobs {
            self.given += piece.text.chars().count();
            let all = self.ended && !self.stream.is_stopped();
            let ready = self
                .pending
                .iter()
                .take_while(|token| all || token.offset < self.given);
            let ready = ready.count();
            piece.tokens.extend(self.pending.drain(..ready));
        }
    }
}

const NO_LOGPROBS: &str = "the model gave no log-probabilities";

/// Counts characters as they come in bytes, as lossy decoding of all of them would.
#[derive(Default)]
struct CharCounter {
    chars: usize,
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl CharCounter {
    /// Adds bytes; gives the number of characters before the one that the first belongs to.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let before = self.chars;
        let all = [&std::mem::take(&mut self.begun)[..], bytes].concat();
        let mut rest = all.len();
        for chunk in all.utf8_chunks() {
            self.chars += chunk.valid().chars().count();
            rest -= chunk.valid().len() + chunk.invalid().len();
            let error = std::str::from_utf8(chunk.invalid()).err();
            if rest == 0 && error.is_some_and(|error| error.error_len().is_none()) {
                self.begun = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                self.chars += 1;
            }
        }
        before
    }

    /// What was begun is no character.
    fn cut(&mut self) {
        self.chars += usize::from(!self.begun.is_empty());
        self.begun.clear();
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
