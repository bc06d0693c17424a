//! From a checkpoint to text or to a score: the model for inference, the loop that draws tokens, many
//! requests at once, the loss over a file, and the log-probability of each token of texts.

mod batch;
mod batch_logits;
mod generator;
mod measure;
mod memory;
mod model;
mod passes;
mod plan;
mod prompts;
mod request;
mod scorer;
mod text;
mod text_scorer;
mod windows;

pub use batch::{Completion, Job, Listener, News, Reason, check_job, generate_all, tokens_per_s};
pub use batch_logits::BatchLogits;
pub(crate) use batch_logits::check_ids;
pub use generator::Generator;
pub use measure::Measure;
pub use model::InferenceModel;
pub use plan::{DecodePlan, DecodePlans, HeadAt, Prefill, Step};
pub use prompts::{Place, Prompt, read_prompts};
pub use request::{
    Event, Fault, Finish, MAX_LOGPROBS, NewToken, Overflow, Request, SequenceId, TokenLogprobs,
};
pub use scorer::{ScorePlan, Scorer};
pub use text::TextStream;
pub use text_scorer::{Logprobs, Scoring, Sequence, TextScorer};
pub use windows::{Window, windows};

use std::path::PathBuf;

use crate::kernels::sample::Sampling;

/// An error of decoding.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Neither a prompt nor prompt tokens.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A token that the model does not know.
    #[error("token {token} at position {position} is outside of the vocabulary of {vocab_size}")]
    OutsideVocab {
        /// The token.
        token: u32,
        /// Its position in the prompt or text.
        position: usize,
        /// Entries of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling parameter out of range.
    #[error("{name} is {value}, but it must be {rule}")]
    OutOfRange {
        /// The flag.
        name: &'static str,
        /// Its value.
        value: String,
        /// The range.
        rule: &'static str,
    },
    /// More tokens than the model can attend to at once.
    #[error(
        "a forward pass over {tokens} tokens is longer than the model's context of {context_length}"
    )]
    TooLong {
        /// Tokens of the pass.
        tokens: usize,
        /// The model's context length.
        context_length: usize,
    },
    /// More tokens than one batch may have.
    #[error("a batch of {tokens} tokens is over {most}; take fewer sequences at once")]
    TooMany {
        /// Tokens of the batch.
        tokens: usize,
        /// As many there may be.
        most: usize,
    },
    /// The oldest tokens cannot be dropped where the newest has no vector for its position.
    #[error(
        "the model has a vector for each position of its context and none behind it, so its cache cannot roll; \
         let the window be computed anew (exact), or stop"
    )]
    CannotRoll,
    /// A head that the model does not have.
    #[error(
        "there is no head {head} of layer {layer}: the model has {num_layers} layers of {num_heads} heads, counted \
         from 0"
    )]
    NoSuchHead {
        /// The layer.
        layer: usize,
        /// The head.
        head: usize,
        /// Layers of the model.
        num_layers: usize,
        /// Heads of a layer.
        num_heads: usize,
    },
    /// A logit is not a number.
    #[error("the model's logits have NaN at token {0}; the checkpoint is damaged or diverged")]
    NotANumber(usize),
    /// Every logit is minus infinity.
    #[error(
        "the model's logits leave no token to draw at token {0}; the checkpoint is damaged or diverged"
    )]
    NoToken(usize),
    /// The token that ends a text is not in the vocabulary.
    #[error("the tokenizer has no token '{0}' to end a text with; go on without one")]
    NoSuchToken(String),
    /// There is nothing to score.
    #[error("the text has nothing to score: every document is empty")]
    NoText,
    /// Text was given or wanted where there is no tokenizer.
    #[error("a prompt of text needs a tokenizer; without one give tokens")]
    NoTokenizer,
    /// The model brought no tokenizer along, and none was given.
    #[error("the model has no tokenizer of its own; name the one that it was trained with")]
    NoOwnTokenizer,
    /// A stop string was given where there is no tokenizer.
    #[error("stop strings need a tokenizer; without one tokens never become text")]
    StopWithoutTokenizer,
    /// A line of a file of prompts asks for nothing, or for what cannot be.
    #[error("{}: line {line}: {problem}", path.display())]
    PromptLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody stopped it.
    #[error("stopped; what there is so far was given out")]
    Stopped,
}

impl DecodeError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::NotANumber(_) | Self::NoToken(_) | Self::Stopped)
    }
}

/// Whether every parameter is in its range.
///
/// # Errors
/// Names one that is not.
pub fn check_sampling(sampling: &Sampling) -> Result<(), DecodeError> {
    let out_of_range =
        |name, value: String, rule| Err(DecodeError::OutOfRange { name, value, rule });
    let temperature = sampling.temperature;
    if !(temperature.is_finite() && temperature >= 0.0) {
        return out_of_range(
            "temperature",
            temperature.to_string(),
            "a number of at least 0",
        );
    }
    if sampling.top_k == Some(0) {
        return out_of_range("top-k", "0".to_owned(), "at least 1");
    }
    if let Some(p) = sampling.top_p.filter(|&p| !(p > 0.0 && p <= 1.0)) {
        return out_of_range("top-p", p.to_string(), "over 0 and at most 1");
    }
    if let Some(p) = sampling.min_p.filter(|p| !(0.0..=1.0).contains(p)) {
        return out_of_range("min-p", p.to_string(), "at least 0 and at most 1");
    }
    let penalty = sampling.repetition_penalty;
    if !(penalty.is_finite() && penalty > 0.0) {
        return out_of_range("repetition-penalty", penalty.to_string(), "a number over 0");
    }
    Ok(())
}
