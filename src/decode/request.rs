//! What one sequence asks for, and what it gets.

use super::DecodeError;
use crate::kernels::sample::Sampling;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens to go on from.
    pub prompt: Vec<u32>,
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Seed of the draws: what is drawn depends on the prompt, this, and [`Request::sample`], and on
    /// nothing that is generated beside it.
    pub seed: u64,
    /// Which of several samples with one seed this is.
    pub sample: u32,
    /// The tokens of which each ends a text; it is not part of the result.
    pub end: Vec<u32>,
    /// What happens when prompt and new tokens exceed the context.
    pub overflow: Overflow,
    /// Log-probabilities of new tokens, each with so many of the likeliest beside it; `None` gives none.
    pub logprobs: Option<usize>,
    /// Whether the prompt's own tokens get log-probabilities too.
    pub prompt_logprobs: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            prompt: Vec::new(),
            max_new_tokens: 256,
            sampling: Sampling::default(),
            seed: 0,
            sample: 0,
            end: Vec::new(),
            overflow: Overflow::Exact,
            logprobs: None,
            prompt_logprobs: false,
        }
    }
}

/// Most of the likeliest tokens beside a token.
pub const MAX_LOGPROBS: usize = 20;

/// What happens when prompt and new tokens exceed the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Each new token sees exactly the last `context_length` tokens, which are computed anew for it.
    #[default]
    Exact,
    /// Each new token sees the keys and values of the last `context_length` tokens as they were computed,
    /// which themselves saw tokens that are gone: faster, and another function.
    Rolling,
    /// The text ends.
    Stop,
}

/// One of several sequences that are generated at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

/// What happened to a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Log-probabilities of the prompt's tokens but the first, if they were asked for: before anything
    /// else.
    Prompt(Vec<TokenLogprobs>),
    /// A new token.
    Token(NewToken),
    /// There is no more.
    Finished(Finish),
    /// There is no more, because of a fault that is this sequence's alone.
    Failed(Fault),
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// The token.
    pub id: u32,
    /// Under the model's own distribution, before temperature and filters; if they were asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// Log-probabilities in nats at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// Of the token.
    pub logprob: f32,
    /// Of the likeliest tokens, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By its end token.
    End,
    /// It has all the tokens that it asked for.
    Length,
    /// The context is full, and the request said to stop.
    Context,
}

/// What is wrong with the logits that a sequence has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One is not a number, at this new token.
    NotANumber(usize),
    /// None is over minus infinity, at this new token.
    NoToken(usize),
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotANumber(index) => Self::NotANumber(index),
            Fault::NoToken(index) => Self::NoToken(index),
        }
    }
}
