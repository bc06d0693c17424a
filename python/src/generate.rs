//! Prompts of any form, and what comes of them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gpu_tlm::config::ModelConfig;
use gpu_tlm::data::tokenizer as ours;
use gpu_tlm::decode::{
    Completion, DecodeError, Job, NewToken, News, Reason, Request, generate_all,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::arrays;
use crate::errors::{Failure, check_signals, to_python, value_error};
use crate::loaded::Loaded;

/// Sequences at once.
const MOST_AT_ONCE: usize = 16;

/// Prompts as ids, and the form that they came in.
pub(crate) struct Prompts {
    ids: Vec<Vec<u32>>,
    are_texts: bool,
    are_several: bool,
}

impl Prompts {
    /// From a text, ids, or a list of either.
    pub(crate) fn of(
        value: &Bound<'_, PyAny>,
        tokenizer: Option<&ours::Tokenizer>,
        vocab_size: usize,
    ) -> PyResult<Self> {
        let is_list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
        let first = match is_list {
            true => value.try_iter()?.next().transpose()?,
            false => None,
        };
        let are_several = match &first {
            Some(first) => arrays::is_text(first) || first.len().is_ok(),
            None => value.getattr("ndim").and_then(|n| n.extract()).unwrap_or(1) > 1,
        };
        let are_texts = arrays::is_text(first.as_ref().unwrap_or(value));
        let one = |value: &Bound<'_, PyAny>| -> PyResult<Vec<u32>> {
            if !are_texts {
                return Ok(arrays::ids("prompt", value, 1..=1, vocab_size)?.values);
            }
            let Some(tokenizer) = tokenizer else {
                return Err(value_error(DecodeError::NoTokenizer.to_string()));
            };
            let ids = tokenizer.encode_prompt(&value.extract::<String>()?);
            match ids.iter().find(|&&id| id as usize >= vocab_size) {
                None => Ok(ids),
                Some(id) => Err(value_error(format!(
                    "the tokenizer gives id {id}, but the model knows 0 to {}; use the tokenizer that it was \
                     trained with",
                    vocab_size - 1
                ))),
            }
        };
        let ids = match are_several {
            false => vec![one(value)?],
            true => value
                .try_iter()?
                .map(|item| one(&item?))
                .collect::<PyResult<_>>()?,
        };
        if ids.iter().any(Vec::is_empty) {
            return Err(to_python(DecodeError::EmptyPrompt.into()));
        }
        Ok(Self {
            ids,
            are_texts,
            are_several,
        })
    }

    /// A job of each.
    pub(crate) fn jobs(&self, request: &Request, stops: &[String]) -> Vec<Job> {
        let job = |prompt: &Vec<u32>| Job {
            request: Request {
                prompt: prompt.clone(),
                ..request.clone()
            },
            stops: stops.to_vec(),
        };
        self.ids.iter().map(job).collect()
    }

    /// What was added, in the form of the prompts.
    pub(crate) fn results<'py>(
        &self,
        py: Python<'py>,
        done: Vec<Completion>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let result = |completion: Completion| -> PyResult<Bound<'py, PyAny>> {
            match self.are_texts {
                true => Ok(completion.text.into_pyobject(py)?.into_any()),
                false => Ok(ids_of(&completion.tokens).into_pyobject(py)?.into_any()),
            }
        };
        let mut results = done.into_iter().map(result).collect::<PyResult<Vec<_>>>()?;
        match self.are_several {
            true => Ok(PyList::new(py, results)?.into_any()),
            false => results
                .pop()
                .ok_or_else(|| value_error("the prompt gave no result")),
        }
    }
}

fn ids_of(tokens: &[NewToken]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

/// Generates for all jobs, of which some go on at once.
pub(crate) fn run(
    loaded: &mut Loaded,
    config: &ModelConfig,
    jobs: &[Job],
    tokenizer: Option<&Arc<ours::Tokenizer>>,
    callback: Option<&Py<PyAny>>,
) -> Result<Vec<Completion>, Failure> {
    let slots = jobs.len().clamp(1, MOST_AT_ONCE);
    let mut generator = loaded.take_generator(config, slots)?;
    let mut done = Vec::with_capacity(jobs.len());
    let mut raised = None;
    // What there is of each job, for those that are not done when a callback ends everything.
    let mut so_far: Vec<(Vec<NewToken>, String)> = vec![Default::default(); jobs.len()];
    let never = AtomicBool::new(false);
    let result = generate_all(&mut generator, jobs, tokenizer, &never, &mut |news| {
        let told = match news {
            News::Begin(..) => check_signals().map(|()| true),
            News::Piece(index, tokens, text) => {
                so_far[index].0.extend_from_slice(tokens);
                so_far[index].1.push_str(text);
                check_signals().and_then(|()| tell(callback, index, tokens, text))
            }
            News::Done(_, completion) => {
                done.push(completion);
                Ok(true)
            }
        };
        Ok(match told {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(failure) => {
                raised = Some(failure);
                ControlFlow::Break(())
            }
        })
    });
    if let Some(failure) = raised {
        return Err(failure);
    }
    result?;
    for completion in &done {
        if let Reason::Fault(fault) = completion.reason {
            return Err(DecodeError::from(fault).into());
        }
    }
    loaded.generator = Some(generator);
    for (tokens, text) in so_far.into_iter().skip(done.len()) {
        done.push(Completion {
            prompt: String::new(),
            text,
            tokens,
            reason: Reason::Interrupted,
            first_token: None,
            elapsed: std::time::Duration::ZERO,
        });
    }
    Ok(done)
}

/// Calls the callback, and says whether to go on.
fn tell(
    callback: Option<&Py<PyAny>>,
    index: usize,
    tokens: &[NewToken],
    text: &str,
) -> Result<bool, Failure> {
    let Some(callback) = callback else {
        return Ok(true);
    };
    Python::attach(|py| {
        let answer = callback.bind(py).call1((index, ids_of(tokens), text))?;
        is_going_on(&answer)
    })
    .map_err(Failure::Python)
}

/// Whether the answer of a callback is anything but False.
pub(crate) fn is_going_on(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    // numpy's False is another object.
    Ok(answer.is_none() || answer.is_truthy()? || !is_bool(answer)?)
}

fn is_bool(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = answer.get_type().name()?.to_string();
    Ok(name == "bool" || name == "bool_")
}
