//! How tokens are drawn, as Python has it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use gpu_tlm::data::tokenizer as ours;
use gpu_tlm::decode::{DecodeError, Overflow, Request};
use gpu_tlm::kernels::sample::Sampling;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{to_python, value_error};

/// How tokens are drawn. What may be drawn is decided in this order: repetition penalty, temperature, top-k,
/// top-p, min-p.
///
/// Args:
///     temperature: divides the logits; 0 takes the likeliest token every time.
///     top_k: draw among the k likeliest tokens only.
///     top_p: draw among the likeliest tokens that together reach this probability.
///     min_p: draw among tokens with at least this share of the likeliest one's probability.
///     repetition_penalty: divides positive logits of tokens in the window and multiplies negative ones.
///     max_new_tokens: most tokens to add.
///     seed: the same seed and prompt give the same tokens; None draws anew every time.
///     stop: texts before the first of which the result ends; they need a tokenizer.
///     end_token: the token that ends a text, as text or id, and is no part of the result; None goes on. 'auto' are
///         the tokens that the model's files name, and else `<|endoftext|>`, where the tokenizer has it.
///     overflow: what happens when prompt and new tokens exceed the context: 'exact' computes the window anew for
///         each token, 'rolling' keeps what was computed (faster, other numbers), 'stop' ends the text.
#[pyclass(module = "gpu_tlm", get_all, set_all)]
#[derive(Clone)]
pub(crate) struct SamplingConfig {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: f32,
    max_new_tokens: usize,
    seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    end_token: Option<EndToken>,
    overflow: String,
}

/// The [`EndToken`] that stands for the model's own.
const AUTO: &str = "auto";

/// A token as text or id.
#[derive(Clone, FromPyObject, IntoPyObject)]
pub(crate) enum EndToken {
    Id(u32),
    Text(String),
}

/// The settings, in the order of the constructor.
const FIELDS: [&str; 10] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
    "seed",
    "stop",
    "end_token",
    "overflow",
];

#[pymethods]
impl SamplingConfig {
    #[new]
    #[pyo3(signature = (
        temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0, max_new_tokens=256, seed=None,
        stop=None, end_token=Some(EndToken::Text(AUTO.to_owned())), overflow="exact".to_owned()
    ), text_signature = "(temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0, \
        max_new_tokens=256, seed=None, stop=None, end_token='auto', overflow='exact')")]
    #[allow(clippy::too_many_arguments, reason = "one a keyword")]
    fn new(
        temperature: f32,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repetition_penalty: f32,
        max_new_tokens: usize,
        seed: Option<u64>,
        stop: Option<Vec<String>>,
        end_token: Option<EndToken>,
        overflow: String,
    ) -> Self {
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            max_new_tokens,
            seed,
            stop: stop.unwrap_or_default(),
            end_token,
            overflow,
        }
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let field = |name: &&str| Ok(format!("{name}={}", this.getattr(*name)?.repr()?));
        let fields: PyResult<Vec<String>> = FIELDS.iter().map(field).collect();
        Ok(format!("SamplingConfig({})", fields?.join(", ")))
    }
}

impl SamplingConfig {
    /// A copy with other values of the fields that `changes` names.
    pub(crate) fn with(
        py: Python<'_>,
        config: Option<&Bound<'_, Self>>,
        changes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let copy = match config {
            Some(config) => Bound::new(py, config.borrow().clone())?,
            None => py.get_type::<Self>().call0()?.cast_into()?,
        };
        for (name, value) in changes.into_iter().flat_map(|changes| changes.iter()) {
            let name: String = name.extract()?;
            if !FIELDS.contains(&name.as_str()) {
                let text = format!(
                    "unexpected keyword '{name}'; there are: {}",
                    FIELDS.join(", ")
                );
                return Err(PyTypeError::new_err(text));
            }
            copy.setattr(name, value)?;
        }
        Ok(copy.borrow().clone())
    }

    /// As the kernels take it.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        }
    }

    /// The seed, or a new one.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(fresh_seed)
    }

    /// What to generate from prompts, without one. `own_ends` are the tokens that end a text by default.
    pub(crate) fn request(
        &self,
        tokenizer: Option<&ours::Tokenizer>,
        own_ends: &[u32],
        vocab_size: usize,
    ) -> PyResult<Request> {
        let end = match &self.end_token {
            None => Vec::new(),
            Some(EndToken::Id(id)) if *id as usize >= vocab_size => {
                let text = format!(
                    "end_token is {id}, which is outside of 0 to {}",
                    vocab_size - 1
                );
                return Err(value_error(text));
            }
            Some(EndToken::Id(id)) => vec![*id],
            Some(EndToken::Text(text)) if text == AUTO => own_ends.to_vec(),
            Some(EndToken::Text(text)) => {
                let tokenizer =
                    tokenizer.ok_or_else(|| to_python(DecodeError::NoTokenizer.into()))?;
                let id = tokenizer.token_id(text);
                let unknown = || to_python(DecodeError::NoSuchToken(text.clone()).into());
                vec![id.ok_or_else(unknown)?]
            }
        };
        let overflow = match &self.overflow[..] {
            "exact" => Overflow::Exact,
            "rolling" => Overflow::Rolling,
            "stop" => Overflow::Stop,
            other => {
                let text =
                    format!("overflow is '{other}', but it must be 'exact', 'rolling' or 'stop'");
                return Err(value_error(text));
            }
        };
        if tokenizer.is_none() && !self.stop.is_empty() {
            return Err(value_error(DecodeError::StopWithoutTokenizer.to_string()));
        }
        Ok(Request {
            max_new_tokens: self.max_new_tokens,
            sampling: self.sampling(),
            seed: self.seed(),
            end,
            overflow,
            ..Request::default()
        })
    }
}

/// A number that is another one every time.
pub(crate) fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
