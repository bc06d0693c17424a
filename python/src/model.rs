//! The model.

use std::path::PathBuf;
use std::sync::Arc;

use gpu_tlm::checkpoint::Checkpoint;
use gpu_tlm::config::ModelConfig;
use gpu_tlm::data::chat::{ChatError, ChatTemplate, Message};
use gpu_tlm::data::tokenizer;
use gpu_tlm::decode::{BatchLogits, Completion, Job};
use gpu_tlm::train::gradients::Gradients;
use gpu_tlm::weights::{HostTensor, ParameterTable};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{self, Array};
use crate::device;
use crate::errors::{Failure, GpuTlmError, detached, expect_path, to_python, value_error, warn};
use crate::generate::{self, Prompts};
use crate::json;
use crate::loaded::{Loaded, Shared};
use crate::sampling::SamplingConfig;
use crate::state_dict::{dict_of, tensors};
use crate::tokenizer::Tokenizer;

/// A Transformer language model on a device.
///
/// Args:
///     config: a dict with vocab_size, context_length, d_model, num_layers, num_heads, and the other keys of a
///         config file that make a model's shape; what is left out has the default of the command line.
///     seed: of the initial weights.
///     device: an index of `devices()` or a part of a name; None takes that of `set_device`, or the best.
///
/// Raises:
///     ValueError: a key or value is wrong, or there is no such device.
#[pyclass(frozen, module = "gpu_tlm")]
pub(crate) struct TransformerLM {
    config: ModelConfig,
    table: ParameterTable,
    /// That of the model's files.
    tokenizer: Option<Py<Tokenizer>>,
    shared: Shared,
}

#[pymethods]
impl TransformerLM {
    #[new]
    #[pyo3(signature = (config, *, seed=0, device=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        seed: u64,
        device: Option<String>,
    ) -> PyResult<Self> {
        let config = json::model_config(config)?;
        let table = ParameterTable::new(&config, &[], usize::MAX);
        arrays::expect_memory(Some(table.count()))?;
        detached(py, || {
            let count = table.iter().count();
            let values = (0..count).map(|index| table.initial_values(index, seed));
            let loaded = Loaded::new(device::open(device.as_deref())?, values.collect());
            Ok(Self::of(config, table, None, loaded))
        })
    }

    /// Loads a model of any format that is read: a checkpoint of ours, a folder or file of Hugging Face, GGUF,
    /// PyTorch or llama2.c, or adapters of PEFT.
    ///
    /// Args:
    ///     path: the file or folder.
    ///     base: the model that adapters are of, where it does not lie where they say.
    ///     context_length: most tokens that the model sees, for less memory than all that it could see.
    ///     config: keys of the shape that a file of bare weights does not tell, such as num_heads.
    ///     device: as for the constructor.
    ///
    /// Raises:
    ///     FileNotFoundError: there is nothing at path.
    ///     GpuTlmError: the file is damaged, or of no format that is read.
    #[staticmethod]
    #[pyo3(signature = (path, *, base=None, context_length=None, config=None, device=None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        base: Option<PathBuf>,
        context_length: Option<usize>,
        config: Option<&Bound<'_, PyAny>>,
        device: Option<String>,
    ) -> PyResult<Self> {
        for path in [Some(&path), base.as_ref()].into_iter().flatten() {
            expect_path(path)?;
        }
        let given = config.map(|config| json::object("config", config));
        let given = given.transpose()?.unwrap_or_default();
        let (config, table, loaded, tokenizer) = detached(py, || {
            let mut checkpoint = Checkpoint::open_beside(&path, base.as_deref())?;
            checkpoint.give(&given)?;
            if let Some(tokens) = context_length {
                checkpoint.limit_context(tokens)?;
            }
            let config = checkpoint.model()?;
            checkpoint.check(&config)?;
            let table = ParameterTable::new(&config, &[], usize::MAX);
            let values = table.iter().map(|p| checkpoint.read(&config, p));
            let values: Arc<[HostTensor]> = values.collect::<Result<_, _>>()?;
            let loaded = Loaded::new(device::open(device.as_deref())?, values);
            Ok((config, table, loaded, checkpoint.tokenizer()))
        })?;
        let tokenizer = tokenizer.unwrap_or_else(|error| {
            // Whoever gives ids needs none.
            let text = format!("going on without the model's own tokenizer: {error}");
            warn(py, &text);
            None
        });
        let tokenizer =
            tokenizer.map(|(tokenizer, roles)| Py::new(py, Tokenizer::of(tokenizer, roles)));
        Ok(Self::of(config, table, tokenizer.transpose()?, loaded))
    }

    /// A model of a config and parameters by name, as `state_dict` gives them.
    ///
    /// Args:
    ///     config: as for the constructor.
    ///     state_dict: a dict of names and float arrays; those of `state_dict()` and no others.
    ///
    /// Raises:
    ///     ValueError: a name is missing or unknown, or a shape is another one.
    #[staticmethod]
    #[pyo3(signature = (config, state_dict, *, device=None))]
    fn from_state_dict(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        state_dict: &Bound<'_, PyAny>,
        device: Option<String>,
    ) -> PyResult<Self> {
        let config = json::model_config(config)?;
        let table = ParameterTable::new(&config, &[], usize::MAX);
        let values = tensors(&table, "state_dict", state_dict)?;
        detached(py, || {
            let loaded = Loaded::new(device::open(device.as_deref())?, values.into());
            Ok(Self::of(config, table, None, loaded))
        })
    }

    /// The model's shape, as a config file has it: a new dict.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::of_model(py, &self.config)
    }

    /// The tokenizer that came with the model's files, or None.
    #[getter]
    fn tokenizer(&self, py: Python<'_>) -> Option<Py<Tokenizer>> {
        self.tokenizer.as_ref().map(|own| own.clone_ref(py))
    }

    /// Name of the device's adapter.
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loaded| Ok(loaded.device.name().to_owned()))
    }

    /// Number of parameters.
    #[getter]
    fn num_parameters(&self) -> usize {
        self.table.count()
    }

    /// A copy of the parameters: a dict of names and float32 arrays, `[out, in]` for matrices.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let values = self.with(py, |loaded| Ok(loaded.values.clone()))?;
        dict_of(py, &self.table, &values)
    }

    /// Takes over other parameters; what is compiled stays.
    ///
    /// Raises:
    ///     ValueError: a name is missing or unknown, or a shape is another one.
    fn load_state_dict(&self, py: Python<'_>, state_dict: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = tensors(&self.table, "state_dict", state_dict)?;
        self.with(py, |loaded| {
            loaded.values = values.into();
            loaded.generator = None;
            if let Some(logits) = &loaded.logits {
                logits.write_parameters(&loaded.values);
            }
            if let Some(gradients) = &loaded.gradients {
                gradients.write_parameters(&loaded.values);
            }
            Ok(())
        })
    }

    /// The logits behind each token.
    ///
    /// Args:
    ///     ids: integers `[time]` or `[batch, time]`, of at most context_length tokens each.
    ///
    /// Returns:
    ///     float32 `[time, vocab_size]` or `[batch, time, vocab_size]`.
    ///
    /// Raises:
    ///     TypeError: ids are no integers.
    ///     ValueError: an id is outside of the vocabulary, or there are too many.
    fn forward<'py>(&self, py: Python<'py>, ids: &Bound<'_, PyAny>) -> PyResult<Array<'py>> {
        let ids = arrays::ids("ids", ids, 1..=2, self.config.vocab_size)?;
        let time = ids.shape[ids.shape.len() - 1];
        arrays::expect_memory(ids.values.len().checked_mul(self.config.vocab_size))?;
        let logits = self.with(py, |loaded| {
            // A longer sequence needs more than those before.
            if !loaded.logits.as_ref().is_some_and(|made| made.takes(time)) {
                loaded.logits = None;
                let model = loaded.model(&self.config);
                loaded.logits = Some(BatchLogits::new(loaded.device.clone(), &model, time)?);
            }
            match &mut loaded.logits {
                Some(logits) => Ok(logits.logits(&ids.values, time)?),
                None => unreachable!("it was made above"),
            }
        })?;
        let mut shape = ids.shape;
        shape.push(self.config.vocab_size);
        arrays::array(py, logits, &shape)
    }

    fn __call__<'py>(&self, py: Python<'py>, ids: &Bound<'_, PyAny>) -> PyResult<Array<'py>> {
        self.forward(py, ids)
    }

    /// The mean cross-entropy in nats of targets behind ids, and its gradient for every parameter, in float32
    /// whatever the model's precision is.
    ///
    /// Args:
    ///     ids: integers `[time]` or `[batch, time]`, of at most context_length tokens each and 65,536 in all.
    ///     targets: integers of the same shape, the token behind each; -100 where none counts, as in PyTorch.
    ///
    /// Returns:
    ///     the loss, 0 where no target counts, and a dict of names and float32 arrays with the shapes of `state_dict()`.
    ///
    /// Raises:
    ///     TypeError, ValueError: as for `forward`, or the shapes differ.
    fn loss_and_grads<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
    ) -> PyResult<(f32, Bound<'py, PyDict>)> {
        let vocab_size = self.config.vocab_size;
        let ids = arrays::ids("ids", ids, 1..=2, vocab_size)?;
        let targets = arrays::targets("targets", targets, 1..=2, vocab_size)?;
        arrays::expect_shape("targets", &targets.shape, &ids.shape)?;
        let time = ids.shape[ids.shape.len() - 1];
        let (loss, gradients) = self.with(py, |loaded| {
            if loaded.gradients.is_none() {
                let model = loaded.model(&self.config);
                loaded.gradients = Some(Gradients::new(loaded.device.clone(), &model)?);
            }
            match &mut loaded.gradients {
                Some(made) => Ok(made.loss_and_gradients(&ids.values, &targets.values, time)?),
                None => unreachable!("it was made above"),
            }
        })?;
        Ok((loss, dict_of(py, &self.table, &gradients)?))
    }

    /// Generates from one prompt or several at once.
    ///
    /// Args:
    ///     prompt: ids `[time]`, a list of such, a text or a list of texts; texts need a tokenizer.
    ///     sampling: how tokens are drawn.
    ///     tokenizer: by default the one that came with the model.
    ///     callback: is called as `callback(index, ids, text)` with what is new of the prompt of that index, one
    ///         after the other; returning False ends everything.
    ///     overrides: fields of SamplingConfig that stand in for those of sampling.
    ///
    /// Returns:
    ///     what was added, in the form of the prompt: ids, a list of such, a text or a list of texts.
    ///
    /// Raises:
    ///     ValueError: a prompt is empty or has an unknown id, or a setting is out of range.
    ///     KeyboardInterrupt: by Ctrl-C, between two tokens.
    #[allow(clippy::too_many_arguments, reason = "one a keyword")]
    #[pyo3(signature = (prompt, sampling=None, *, tokenizer=None, callback=None, **overrides))]
    fn generate<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        sampling: Option<&Bound<'py, SamplingConfig>>,
        tokenizer: Option<Py<Tokenizer>>,
        callback: Option<Py<PyAny>>,
        overrides: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let sampling = SamplingConfig::with(py, sampling, overrides)?;
        let tokenizer = tokenizer.or_else(|| self.tokenizer(py));
        let (tokenizer, ends) = match &tokenizer {
            Some(tokenizer) => {
                let Tokenizer { inner, roles } = tokenizer.get();
                (Some(inner.clone()), &roles.eos[..])
            }
            None => (None, &[][..]),
        };
        let vocab_size = self.config.vocab_size;
        let request = sampling.request(tokenizer.as_deref(), ends, vocab_size)?;
        let prompts = Prompts::of(prompt, tokenizer.as_deref(), vocab_size)?;
        let jobs = prompts.jobs(&request, &sampling.stop);
        let done = self.completions(py, &jobs, tokenizer.as_ref(), callback.as_ref())?;
        prompts.results(py, done)
    }

    /// Answers a conversation, which becomes text by the chat template that came with the model.
    ///
    /// Args:
    ///     messages: a list of dicts with role (system, user or assistant) and content; a list of parts of text may
    ///         be a content, too.
    ///     sampling: how tokens are drawn. What ends the assistant's messages ends the answer, unless end_token is
    ///         given.
    ///     callback, overrides: as for `generate`.
    ///
    /// Returns:
    ///     the answer: the content of the assistant's next message.
    ///
    /// Raises:
    ///     ValueError: a message is none, or the model's files have no chat template.
    ///     GpuTlmError: the template fails, for instance since it does not take such messages.
    #[pyo3(signature = (messages, sampling=None, *, callback=None, **overrides))]
    fn chat(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        sampling: Option<&Bound<'_, SamplingConfig>>,
        callback: Option<Py<PyAny>>,
        overrides: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<String> {
        let sampling = SamplingConfig::with(py, sampling, overrides)?;
        let messages = messages_of(messages)?;
        let Some(own) = &self.tokenizer else {
            return Err(to_python(ChatError::NoTemplate.into()));
        };
        let Tokenizer { inner, roles } = own.get();
        let tokenizer = inner.clone();
        let template = ChatTemplate::new(&tokenizer, roles);
        let template = template.map_err(|error| to_python(error.into()))?;
        let ends = roles.eos.iter().copied();
        let ends: Vec<u32> = ends.chain(template.end_of_turn(&tokenizer)).collect();
        let text = template.render(&messages, true);
        let text = text.map_err(|error| to_python(error.into()))?;
        let mut request = sampling.request(Some(&tokenizer), &ends, self.config.vocab_size)?;
        // The template has written what stands before a text.
        request.prompt = tokenizer.encode(&text);
        let stops = sampling.stop.clone();
        let job = Job { request, stops };
        let done = self.completions(py, &[job], Some(&tokenizer), callback.as_ref())?;
        Ok(done.into_iter().map(|completion| completion.text).collect())
    }

    /// Frees what the model has on the device and in memory; using it afterwards is an exception.
    ///
    /// Raises:
    ///     GpuTlmError: it is called by a callback of this model.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            *self.shared.lock()?.loaded = None;
            Ok(())
        })
    }

    /// Whether the model was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        // A model that this thread uses is open.
        py.detach(|| self.shared.lock().is_ok_and(|used| used.loaded.is_none()))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _exception: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let ModelConfig {
            vocab_size,
            context_length,
            d_model,
            num_layers,
            num_heads,
            ..
        } = self.config;
        format!(
            "TransformerLM(vocab_size={vocab_size}, context_length={context_length}, d_model={d_model}, \
             num_layers={num_layers}, num_heads={num_heads}; {} parameters)",
            self.table.count()
        )
    }
}

impl TransformerLM {
    fn of(
        config: ModelConfig,
        table: ParameterTable,
        tokenizer: Option<Py<Tokenizer>>,
        loaded: Loaded,
    ) -> Self {
        Self {
            config,
            table,
            tokenizer,
            shared: Shared::new(loaded),
        }
    }

    fn completions(
        &self,
        py: Python<'_>,
        jobs: &[Job],
        tokenizer: Option<&Arc<tokenizer::Tokenizer>>,
        callback: Option<&Py<PyAny>>,
    ) -> PyResult<Vec<Completion>> {
        self.with(py, |loaded| {
            generate::run(loaded, &self.config, jobs, tokenizer, callback)
        })
    }

    /// Does something with the model, without the interpreter lock: whoever waits for a model must not hold that.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Loaded) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let mut used = self.shared.lock()?;
            match used.loaded.as_mut() {
                Some(loaded) => work(loaded),
                None => {
                    let error = GpuTlmError::new_err("the model was closed; load it again");
                    Err(Failure::Python(error))
                }
            }
        })
    }
}

/// The messages of a list of dicts.
fn messages_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<Message>> {
    let values = json::list("messages", value)?;
    if values.is_empty() {
        return Err(value_error("messages are none; give at least one"));
    }
    let read = |(index, value)| {
        Message::read(value).map_err(|problem| value_error(format!("message {index} {problem}")))
    };
    values.iter().enumerate().map(read).collect()
}
