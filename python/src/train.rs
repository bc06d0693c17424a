//! Whole runs, and the parts of one.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use gpu_tlm::checkpoint::{self, Checkpoint, Metadata};
use gpu_tlm::config::{Resolved, Schedule, SettingFlags, Settings, TrainConfig};
use gpu_tlm::data::batches::BatchOrder;
use gpu_tlm::train::metrics::TrainRecord;
use gpu_tlm::train::run::{Run, StartOptions};
use gpu_tlm::train::schedule;
use gpu_tlm::train::trainer::Ending;
use gpu_tlm::weights::{EngineState, ParameterTable};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PySlice};

use crate::arrays;
use crate::errors::{Failure, check_signals, detached, expect_path, to_python, value_error};
use crate::generate::is_going_on;
use crate::json;
use crate::sampling::fresh_seed;
use crate::state_dict::{dict_of, tensors};

/// Trains a model, as `gpu-tlm train` does: data and settings are checked, the run's files are written to the
/// folder `logdir` of the config, and the run goes on to its last iteration.
///
/// Args:
///     config: a dict with the keys of a config file, or the path of one.
///     callback: is called with a dict of each finished step, a step late: iteration, tokens, loss,
///         learning_rate, grad_norm, loss_scale (None in f32), tokens_per_s. Returning False ends the run.
///     replace: take the place of the run that the folder holds.
///
/// A run that is ended, by the callback, its exception or Ctrl-C, finishes its step and leaves a checkpoint to go
/// on from (key load_checkpoint); KeyboardInterrupt or the callback's exception is raised then.
///
/// Returns:
///     a dict: iterations that are done, finished (whether these are all), checkpoint (its path), logdir.
///
/// Raises:
///     ValueError: a key or value is wrong, or files do not belong together.
///     FileNotFoundError: a file that the config names is missing.
///     GpuTlmError: the loss is no number any more, or the device fails.
#[pyfunction]
#[pyo3(signature = (config, callback=None, *, replace=false))]
pub(crate) fn train<'py>(
    py: Python<'py>,
    config: &Bound<'py, PyAny>,
    callback: Option<Py<PyAny>>,
    replace: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let resolved = if config.cast::<PyMapping>().is_ok() {
        json::settings("config", config)?
    } else {
        let path: PathBuf = config.extract()?;
        expect_path(&path)?;
        let resolved = Resolved::load(Some(&path), &SettingFlags::default());
        resolved.map_err(|error| to_python(error.into()))?
    };
    let named = [
        &resolved.settings.train_path,
        &resolved.settings.val_path,
        &resolved.settings.tokenizer,
        &resolved.settings.load_checkpoint,
        &resolved.settings.init_from,
    ];
    for path in named.into_iter().flatten() {
        expect_path(path)?;
    }
    let (iterations, ending, checkpoint, logdir) = detached(py, || {
        let options = StartOptions {
            replace,
            ..StartOptions::default()
        };
        let run = Run::prepare(resolved, options)?;
        let logdir = run.settings().logdir.clone();
        let mut started = run.start()?;
        let mut raised = None;
        let never = AtomicBool::new(false);
        let ending = started.go(&never, &mut |record| {
            let told = check_signals().and_then(|()| tell(callback.as_ref(), record));
            match told {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(failure) => {
                    raised = Some(failure);
                    ControlFlow::Break(())
                }
            }
        })?;
        match raised {
            Some(failure) => Err(failure),
            None => {
                let checkpoint = started.latest_checkpoint();
                Ok((started.iterations(), ending, checkpoint, logdir))
            }
        }
    })?;
    let result = PyDict::new(py);
    result.set_item("iterations", iterations)?;
    result.set_item("finished", ending == Ending::Done)?;
    result.set_item("checkpoint", checkpoint.into_os_string())?;
    result.set_item("logdir", logdir.map(PathBuf::into_os_string))?;
    Ok(result)
}

fn tell(callback: Option<&Py<PyAny>>, record: &TrainRecord) -> Result<bool, Failure> {
    let Some(callback) = callback else {
        return Ok(true);
    };
    let told = Python::attach(|py| {
        let dict = PyDict::new(py);
        dict.set_item("iteration", record.iteration)?;
        dict.set_item("tokens", record.tokens)?;
        dict.set_item("loss", record.loss)?;
        dict.set_item("learning_rate", record.learning_rate)?;
        dict.set_item("grad_norm", record.grad_norm)?;
        dict.set_item("loss_scale", record.loss_scale.map(|state| state.scale))?;
        dict.set_item("tokens_per_s", record.tokens_per_s)?;
        is_going_on(&callback.bind(py).call1((dict,))?)
    });
    told.map_err(Failure::Python)
}

/// The learning rate of a step: linear warm-up, half a cosine down to the least, and that from then on.
///
/// Args:
///     it: the step, counted from 0.
///     max_learning_rate: at the end of the warm-up.
///     min_learning_rate: at the end of the cosine.
///     warmup_iters: steps of warm-up.
///     cosine_cycle_iters: the step at which the cosine ends.
#[pyfunction]
pub(crate) fn get_lr_cosine_schedule(
    it: u64,
    max_learning_rate: f64,
    min_learning_rate: f64,
    warmup_iters: u64,
    cosine_cycle_iters: u64,
) -> PyResult<f64> {
    let defaults = Settings::default().train();
    let defaults = defaults.map_err(|error| to_python(error.into()))?;
    let config = TrainConfig {
        learning_rate: max_learning_rate,
        min_learning_rate,
        warmup_iters,
        cosine_cycle_iters,
        schedule: Schedule::Cosine,
        ..defaults
    };
    Ok(schedule::learning_rate(&config, it))
}

/// Windows drawn at random from a long array of tokens, and the tokens behind theirs.
///
/// Args:
///     tokens: integers `[n]`, more than context_length; a memory-mapped array is read where windows are.
///     batch_size: windows.
///     context_length: tokens of each.
///     seed: of the draws; None draws anew every time.
///     iteration: batches of one seed and several iterations are those of `train` with them.
///
/// Returns:
///     x and y, int64 `[batch_size, context_length]` each; y is x one token later.
///
/// Raises:
///     TypeError: tokens are no integers. ValueError: there are too few.
#[pyfunction]
#[pyo3(signature = (tokens, batch_size, context_length, *, seed=None, iteration=0))]
pub(crate) fn get_batch<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    batch_size: usize,
    context_length: usize,
    seed: Option<u64>,
    iteration: u64,
) -> PyResult<(arrays::IdArray<'py>, arrays::IdArray<'py>)> {
    for (name, value) in [
        ("batch_size", batch_size),
        ("context_length", context_length),
    ] {
        if value == 0 || u32::try_from(value).is_err() {
            return Err(value_error(format!(
                "{name} is {value}, but it must be from 1 to {}",
                u32::MAX
            )));
        }
    }
    // What numpy makes of a memory-mapped array is no copy.
    let array = py.import("numpy")?.call_method1("asarray", (tokens,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let &[len] = &shape[..] else {
        let shape = arrays::shown(&shape);
        return Err(value_error(format!(
            "tokens must have one dimension, not the shape {shape}"
        )));
    };
    if len <= context_length {
        return Err(value_error(format!(
            "tokens are {len}, but a window takes context_length + 1 = {}",
            context_length + 1
        )));
    }
    let seed = seed.unwrap_or_else(fresh_seed);
    if iteration.checked_mul(batch_size as u64).is_none() {
        return Err(value_error(format!(
            "iteration is {iteration}, which is too large"
        )));
    }
    let order = BatchOrder::random(len, context_length, seed, batch_size);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for all in [&mut x, &mut y] {
        let count = batch_size.checked_mul(context_length);
        let count = count.ok_or_else(|| PyMemoryError::new_err("the batch is too large"))?;
        let reserved = all.try_reserve_exact(count);
        reserved.map_err(|error| PyMemoryError::new_err(error.to_string()))?;
    }
    for start in order.starts(iteration) {
        let end = start + context_length + 1;
        let bounds = [start, end].map(|at| isize::try_from(at).unwrap_or(isize::MAX));
        let window = array.get_item(PySlice::new(py, bounds[0], bounds[1], 1))?;
        let window = arrays::ids("tokens", &window, 1..=1, u32::MAX as usize)?;
        let window = window.values.into_iter().map(i64::from);
        let window: Vec<i64> = window.collect();
        x.extend_from_slice(&window[..context_length]);
        y.extend_from_slice(&window[1..]);
    }
    let shape = [batch_size, context_length];
    Ok((
        arrays::id_array(py, x, &shape)?,
        arrays::id_array(py, y, &shape)?,
    ))
}

/// Key of the optimizer's steps beside the model's, where they are not the iterations.
const STEPS: &str = "optimizer_steps";

/// Writes a checkpoint in our format; see `save_checkpoint`.
#[pyfunction]
#[pyo3(signature = (path, config, state_dict, moments, iteration, steps))]
#[allow(clippy::too_many_arguments, reason = "what a checkpoint has")]
pub(crate) fn write_checkpoint(
    py: Python<'_>,
    path: PathBuf,
    config: &Bound<'_, PyAny>,
    state_dict: &Bound<'_, PyAny>,
    moments: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    iteration: u64,
    steps: u64,
) -> PyResult<()> {
    let model = json::model_config(config)?;
    let table = ParameterTable::new(&model, &[], usize::MAX);
    let parameters = tensors(&table, "state_dict", state_dict)?;
    let moments = match moments {
        None => None,
        Some((first, second)) => Some([
            tensors(&table, "moment1", &first)?,
            tensors(&table, "moment2", &second)?,
        ]),
    };
    let mut config = match serde_json::to_value(&model) {
        Ok(serde_json::Value::Object(config)) => config,
        _ => return Err(value_error("config is no dict")),
    };
    config.insert(STEPS.to_owned(), steps.into());
    let metadata = Metadata {
        iteration,
        config,
        tokenizer_hash: None,
        train_loss: None,
        val_loss: None,
        best_val_loss: None,
        base: None,
        tuning: None,
    };
    let state = EngineState {
        parameters,
        moments,
        loss_scale: None,
    };
    detached(py, || {
        Ok(checkpoint::save(&path, &table, &state, &metadata)?)
    })
}

/// Config, parameters, both moments or None, iterations and the optimizer's steps of a checkpoint.
#[pyfunction]
#[allow(clippy::type_complexity, reason = "what a checkpoint has")]
pub(crate) fn read_checkpoint<'py>(
    py: Python<'py>,
    path: PathBuf,
) -> PyResult<(
    Bound<'py, PyAny>,
    Bound<'py, PyDict>,
    Option<(Bound<'py, PyDict>, Bound<'py, PyDict>)>,
    u64,
    u64,
)> {
    expect_path(&path)?;
    let (config, table, values, (moments, iteration, noted)) = detached(py, || {
        let checkpoint = Checkpoint::open(&path)?;
        let config = checkpoint.model()?;
        checkpoint.check(&config)?;
        let table = ParameterTable::new(&config, &[], usize::MAX);
        let values = table.iter().map(|p| checkpoint.read(&config, p));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let stored = checkpoint.stored_moments(&config)?;
        Ok((config, table, values, stored))
    })?;
    let steps = noted.get(STEPS).and_then(serde_json::Value::as_u64);
    let moments = match moments {
        None => None,
        Some([first, second]) => {
            Some((dict_of(py, &table, &first)?, dict_of(py, &table, &second)?))
        }
    };
    let state = dict_of(py, &table, &values)?;
    let config = json::of_model(py, &config)?;
    Ok((
        config,
        state,
        moments,
        iteration,
        steps.unwrap_or(iteration),
    ))
}
