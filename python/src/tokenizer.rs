//! The tokenizer, and learning one.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use gpu_tlm::data::input::{InputOptions, Inputs};
use gpu_tlm::data::stream;
use gpu_tlm::data::tokenizer::train::{SpecialIds, TrainOptions, Trainer};
use gpu_tlm::data::tokenizer::{self as ours, TokenRoles};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PySequence, PyString};

use crate::arrays;
use crate::errors::{Failure, check_signals, detached, expect_path, value_error};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A byte-level BPE tokenizer, with the pre-tokens of GPT-2 unless its files say otherwise.
///
/// Args:
///     vocab: a dict of ids and bytes; ids count from 0 without gaps.
///     merges: pairs of bytes, in the order in which they were learnt.
///     special_tokens: texts that are one token each; those that vocab does not have get the ids behind it. What is
///         neither a byte nor made by a merge is special in any case.
///
/// Raises:
///     TypeError: something is no bytes. ValueError: it is not one tokenizer.
#[pyclass(frozen, module = "gpu_tlm")]
pub(crate) struct Tokenizer {
    pub(crate) inner: Arc<ours::Tokenizer>,
    /// What its files say of its tokens, or else its vocabulary.
    pub(crate) roles: TokenRoles,
}

impl Tokenizer {
    pub(crate) fn of(tokenizer: ours::Tokenizer, roles: TokenRoles) -> Self {
        Self {
            inner: Arc::new(tokenizer.with_prompts_of(&roles)),
            roles,
        }
    }

    fn without_files(tokenizer: ours::Tokenizer) -> Self {
        let roles = TokenRoles::of(&tokenizer);
        Self::of(tokenizer, roles)
    }
}

#[pymethods]
impl Tokenizer {
    #[new]
    #[pyo3(signature = (vocab, merges, special_tokens=None))]
    fn new(
        py: Python<'_>,
        vocab: &Bound<'_, PyAny>,
        merges: &Bound<'_, PyAny>,
        special_tokens: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let no_dict = || PyTypeError::new_err("vocab must be a dict of ids and bytes");
        let vocab = arrays::dict(vocab)?.ok_or_else(no_dict)?;
        let tokens = vocab.iter().map(|(id, bytes)| {
            let pair = id.extract::<u32>().and_then(|id| {
                let bytes = bytes.cast::<PyBytes>()?;
                Ok((id, bytes.as_bytes().to_vec()))
            });
            pair.map_err(|_| {
                let text =
                    format!("vocab must be a dict of ids and bytes, but it has {id}: {bytes}");
                PyTypeError::new_err(text)
            })
        });
        let tokens = tokens.collect::<PyResult<Vec<_>>>()?;
        let merges: Pairs = merges
            .try_iter()?
            .map(|pair| {
                let pair = pair?;
                let parts: PyResult<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)> = pair.extract();
                let (left, right) = parts.map_err(|_| {
                    PyTypeError::new_err(format!(
                        "merges must be pairs of bytes, but one is {pair}"
                    ))
                })?;
                Ok((left.as_bytes().to_vec(), right.as_bytes().to_vec()))
            })
            .collect::<PyResult<_>>()?;
        let special_tokens = special_tokens.unwrap_or_default();
        let made = py.detach(|| ours::Tokenizer::from_vocabulary(tokens, &merges, &special_tokens));
        // Nothing of it is a file.
        made.map(Self::without_files)
            .map_err(|error| value_error(error.to_string()))
    }

    /// Reads a tokenizer.
    ///
    /// Args:
    ///     path_or_vocab: a folder with vocab.json and merges.txt or merges.pkl, a tokenizer.json or a .tiktoken file;
    ///         or a vocabulary in JSON, where merges is given.
    ///     merges: the merges: pickled pairs of bytes where the name ends in .pkl, and GPT-2's text elsewhere.
    ///     special_tokens: as for the constructor.
    ///
    /// Raises:
    ///     FileNotFoundError: there is nothing at a path. GpuTlmError: the files are not one tokenizer.
    #[staticmethod]
    #[pyo3(signature = (path_or_vocab, merges=None, special_tokens=None))]
    fn from_files(
        py: Python<'_>,
        path_or_vocab: PathBuf,
        merges: Option<PathBuf>,
        special_tokens: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let special_tokens = special_tokens.unwrap_or_default();
        for path in [Some(&path_or_vocab), merges.as_ref()]
            .into_iter()
            .flatten()
        {
            expect_path(path)?;
        }
        detached(py, || {
            let path = &path_or_vocab;
            if let Some(merges) = &merges {
                let tokenizer = ours::Tokenizer::load_pair(path, merges, &special_tokens)?;
                return Ok(Self::without_files(tokenizer));
            }
            let tokenizer = ours::Tokenizer::load_with(path, None, &special_tokens)?;
            let roles = TokenRoles::load(path, &tokenizer)?;
            Ok(Self::of(tokenizer, roles))
        })
    }

    /// The ids of a text.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        detached(py, || Ok(self.inner.encode(text)))
    }

    /// The ids of texts one after the other, each encoded when its ids are taken.
    fn encode_iterable(&self, iterable: &Bound<'_, PyAny>) -> PyResult<EncodedIterable> {
        Ok(EncodedIterable {
            tokenizer: self.inner.clone(),
            texts: iterable.try_iter()?.unbind(),
            ids: Vec::new().into_iter(),
        })
    }

    /// The text of ids, an iterable of integers. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// Raises:
    ///     ValueError: an id is outside of the vocabulary.
    fn decode(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<String> {
        let bytes = self.decoded(py, ids)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of ids.
    fn decode_bytes<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.decoded(py, ids)?))
    }

    /// Number of tokens, special ones included.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    /// The special tokens: a dict of texts and ids.
    #[getter]
    fn special_tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for token in self.inner.special_tokens() {
            dict.set_item(&token.text, token.id)?;
        }
        Ok(dict)
    }

    /// The vocabulary: a dict of ids and bytes.
    #[getter]
    fn vocab<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        vocab(py, &self.inner)
    }

    /// The merges: pairs of bytes, in the order in which they were learnt.
    #[getter]
    fn merges<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        merges(py, &self.inner)
    }

    /// The id of the token with exactly this text, or None; a special token comes first.
    fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_id(text)
    }

    /// Writes vocab.json and merges.txt into a folder, which is made if needed.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || Ok(self.inner.save(&path)?))
    }

    fn __len__(&self) -> usize {
        self.inner.vocab_size()
    }

    fn __repr__(&self) -> String {
        let special = self.inner.special_tokens().len();
        let tokens = self.inner.vocab_size();
        format!("Tokenizer({tokens} tokens, {special} of them special)")
    }
}

impl Tokenizer {
    fn decoded(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        if ids.len().is_ok_and(|len| len == 0) {
            return Ok(Vec::new());
        }
        // Of others than sequences and arrays, such as what encode_iterable gives, numpy makes one object.
        let list;
        let is_array = ids.hasattr("__array__")? || ids.cast::<PySequence>().is_ok();
        let ids = match is_array {
            true => ids,
            false => {
                list = pyo3::types::PyList::empty(py);
                for id in ids.try_iter()? {
                    list.append(id?)?;
                }
                list.as_any()
            }
        };
        let ids = arrays::ids("ids", ids, 1..=1, self.inner.vocab_size())?;
        detached(py, || Ok(self.inner.decode(&ids.values)?))
    }
}

fn vocab<'py>(py: Python<'py>, tokenizer: &ours::Tokenizer) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for id in (0u32..).take(tokenizer.vocab_size()) {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        dict.set_item(id, PyBytes::new(py, bytes))?;
    }
    Ok(dict)
}

fn merges<'py>(
    py: Python<'py>,
    tokenizer: &ours::Tokenizer,
) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let merges = tokenizer.merges();
    merges
        .map(|(left, right)| (PyBytes::new(py, left), PyBytes::new(py, right)))
        .collect()
}

/// The ids of texts that are taken one by one.
#[pyclass(module = "gpu_tlm")]
pub(crate) struct EncodedIterable {
    tokenizer: Arc<ours::Tokenizer>,
    texts: Py<PyIterator>,
    ids: std::vec::IntoIter<u32>,
}

#[pymethods]
impl EncodedIterable {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<u32>> {
        loop {
            if let Some(id) = self.ids.next() {
                return Ok(Some(id));
            }
            let Some(text) = self.texts.bind(py).clone().next() else {
                return Ok(None);
            };
            let text = text?;
            let Ok(text) = text.cast::<PyString>() else {
                let found = text.get_type().name()?;
                return Err(PyTypeError::new_err(format!(
                    "encode_iterable takes texts, not {found}"
                )));
            };
            let text: String = text.extract()?;
            let tokenizer = &self.tokenizer;
            let ids = detached(py, || Ok(tokenizer.encode(&text)))?;
            self.ids = ids.into_iter();
        }
    }
}

/// Learns a vocabulary from a file: text, JSON lines with a key text, or either compressed by gzip or zstd.
///
/// Of all pairs the most frequent is merged, and of equally frequent ones the greatest, left part first.
///
/// Args:
///     input_path: the file, or a folder of some.
///     vocab_size: tokens wanted: 256 bytes, the special tokens, and one a merge.
///     special_tokens: tokens that are never merged, and at which texts are split.
///     special_ids: 'first' gives them the ids from 0 on, 'last' those behind all others.
///
/// Returns:
///     vocab, a dict of ids and bytes, and merges, a list of pairs of bytes.
///
/// Raises:
///     FileNotFoundError: there is nothing at input_path. ValueError: vocab_size is too small.
#[pyfunction]
#[pyo3(signature = (input_path, vocab_size, special_tokens=None, *, special_ids="first"))]
#[allow(
    clippy::type_complexity,
    reason = "what the assignment's adapter returns"
)]
pub(crate) fn train_bpe<'py>(
    py: Python<'py>,
    input_path: PathBuf,
    vocab_size: usize,
    special_tokens: Option<Vec<String>>,
    special_ids: &str,
) -> PyResult<(
    Bound<'py, PyDict>,
    Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>,
)> {
    expect_path(&input_path)?;
    let special_ids = match special_ids {
        "first" => SpecialIds::First,
        "last" => SpecialIds::Last,
        other => {
            let text = format!("special_ids is {other:?}, but it must be 'first' or 'last'");
            return Err(value_error(text));
        }
    };
    let tokenizer = detached(py, || {
        let trainer = Trainer::new(TrainOptions {
            vocab_size,
            special_tokens: special_tokens.unwrap_or_default(),
            special_ids,
        })?;
        let mut raised = None;
        let mut inputs = Inputs::open(&[input_path], InputOptions::default())?;
        let counted = stream::count(&mut inputs, &trainer, &mut |_| going_on(&mut raised));
        if let Some(failure) = raised {
            return Err(failure);
        }
        counted?;
        let mut calls = 0u32;
        let learnt = trainer.finish_watched(&mut |_| {
            calls = calls.wrapping_add(1);
            match calls % SIGNALS_EVERY {
                0 => going_on(&mut raised),
                _ => ControlFlow::Continue(()),
            }
        });
        match raised {
            Some(failure) => Err(failure),
            None => Ok(learnt?),
        }
    })?;
    Ok((vocab(py, &tokenizer)?, merges(py, &tokenizer)))
}

/// Merges between two looks for Ctrl-C.
const SIGNALS_EVERY: u32 = 64;

fn going_on(raised: &mut Option<Failure>) -> ControlFlow<()> {
    match check_signals() {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => {
            *raised = Some(failure);
            ControlFlow::Break(())
        }
    }
}
