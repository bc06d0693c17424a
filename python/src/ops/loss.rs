//! What is made of logits: losses, log-probabilities and tokens.

use gpu_tlm::decode::check_sampling;
use gpu_tlm::gpu::HostRun;
use gpu_tlm::kernels::cross_entropy as loss_kernel;
use gpu_tlm::kernels::logprobs::{MAX_TOP, row_words, token_logprobs};
use gpu_tlm::kernels::sample::{
    self as kernel, MAX_VOCAB, NAN_ROW, NO_TOKEN, SETTINGS_WORDS, SampleRows,
};
use gpu_tlm::model::InputLayout;
use pyo3::prelude::*;

use super::{run, run_words};
use crate::arrays::{self, Array, Floats, IdArray, Ids};
use crate::errors::{GpuTlmError, to_python, value_error};
use crate::sampling::SamplingConfig;

/// Logits `[..., vocab]` and a target for each row.
fn logits_and_targets(
    logits: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
) -> PyResult<(Floats, Ids)> {
    let logits = arrays::floats_of("logits", logits, 1..=usize::MAX)?;
    let targets = arrays::targets("targets", targets, 0..=usize::MAX, logits.cols())?;
    expect_one_a_row("targets", &targets, &logits)?;
    Ok((logits, targets))
}

fn expect_one_a_row(name: &str, ids: &Ids, logits: &Floats) -> PyResult<()> {
    arrays::expect_shape(name, &ids.shape, &logits.shape[..logits.shape.len() - 1])
}

/// The cross-entropy of each row in nats.
///
/// Args:
///     logits: floats `[..., vocab_size]`.
///     targets: integers `[...]`, below vocab_size; -100 for rows that do not count, as in PyTorch.
///
/// Returns:
///     float32 `[...]`; 0 for rows that do not count.
#[pyfunction]
pub(crate) fn cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let (logits, targets) = logits_and_targets(logits, targets)?;
    let rows = logits.rows();
    let [losses] = run(py, |run| {
        let input = run.floats(rows, logits.cols(), &logits.values);
        let words = run.words(1, rows, targets.values);
        let losses = run.plan.scratch("losses", 1, rows);
        loss_kernel::forward(&mut run.plan, input, words, losses, None, None);
        [losses]
    })?;
    arrays::array(py, losses, &targets.shape)
}

/// The mean cross-entropy in nats; see `cross_entropy`.
#[pyfunction]
pub(crate) fn mean_cross_entropy(
    py: Python<'_>,
    logits: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
) -> PyResult<f32> {
    let (logits, targets) = logits_and_targets(logits, targets)?;
    let rows = logits.rows();
    let scale = InputLayout::mean_scale(&targets.values);
    let [mean] = run(py, |run| {
        let input = run.floats(rows, logits.cols(), &logits.values);
        let words = run.words(1, rows, targets.values);
        let losses = run.plan.scratch("losses", 1, rows);
        loss_kernel::forward(&mut run.plan, input, words, losses, None, None);
        let total = run.plan.scratch("total", 1, 1);
        let scale = run.floats(1, 1, &[scale]);
        loss_kernel::loss_sum(&mut run.plan, losses, total, scale, false);
        [total]
    })?;
    Ok(mean[0])
}

/// The gradient of the sum of `cross_entropy`, times a scale, for the logits.
///
/// Args:
///     logits, targets: as for `cross_entropy`.
///     scale: one over the number of rows that count gives the gradient of the mean.
#[pyfunction]
#[pyo3(signature = (logits, targets, scale=1.0))]
pub(crate) fn cross_entropy_backward<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    scale: f32,
) -> PyResult<Array<'py>> {
    let (logits, targets) = logits_and_targets(logits, targets)?;
    let rows = logits.rows();
    let [d_logits] = run(py, |run| {
        let input = run.floats(rows, logits.cols(), &logits.values);
        let words = run.words(1, rows, targets.values);
        let losses = run.plan.scratch("losses", 1, rows);
        let scale = run.floats(1, 1, &[scale]);
        loss_kernel::forward(&mut run.plan, input, words, losses, Some(scale), None);
        [input]
    })?;
    arrays::array(py, d_logits, &logits.shape)
}

/// Log-probabilities in nats of one token a row, and of the likeliest.
///
/// Args:
///     logits: floats `[..., vocab_size]`.
///     ids: integers `[...]`, below vocab_size.
///     top: how many of the likeliest, at most 20.
///
/// Returns:
///     float32 `[...]`; int64 `[..., top]`, likeliest first; and their log-probabilities, float32 `[..., top]`. Where
///     the vocabulary has fewer, ids are -1.
#[pyfunction]
#[pyo3(signature = (logits, ids, top=0))]
pub(crate) fn logprobs<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    ids: &Bound<'py, PyAny>,
    top: usize,
) -> PyResult<(Array<'py>, IdArray<'py>, Array<'py>)> {
    let logits = arrays::floats_of("logits", logits, 1..=usize::MAX)?;
    let ids = arrays::ids("ids", ids, 0..=usize::MAX, logits.cols())?;
    expect_one_a_row("ids", &ids, &logits)?;
    if top > MAX_TOP {
        return Err(value_error(format!(
            "top is {top}, but it must be at most {MAX_TOP}"
        )));
    }
    let (rows, cols) = (logits.rows(), row_words(top));
    let [words] = run_words(py, |run| {
        let input = run.floats(rows, logits.cols(), &logits.values);
        let tokens = run.words(1, rows, ids.values);
        let output = run.plan.scratch("logprobs", rows, cols);
        token_logprobs(&mut run.plan, input, tokens, top, output);
        [output]
    })?;
    let of = |range: std::ops::Range<usize>| {
        let rows = words.chunks_exact(cols);
        rows.flat_map(move |row| row[range.clone()].iter().copied())
    };
    let floats = |range| of(range).map(f32::from_bits).collect::<Vec<_>>();
    let id = |word| match word {
        gpu_tlm::kernels::logprobs::NO_TOKEN => -1,
        word => i64::from(word),
    };
    let mut shape = ids.shape.clone();
    shape.push(top);
    Ok((
        arrays::array(py, floats(0..1), &ids.shape)?,
        arrays::id_array(py, of(1..1 + top).map(id).collect(), &shape)?,
        arrays::array(py, floats(1 + top..cols), &shape)?,
    ))
}

/// Rows of logits and how their tokens are drawn.
struct Rows {
    logits: Floats,
    settings: Vec<u32>,
    context: Vec<u32>,
    context_cols: usize,
}

impl Rows {
    fn of(
        logits: &Bound<'_, PyAny>,
        sampling: &SamplingConfig,
        context: Option<&Bound<'_, PyAny>>,
        counter: u64,
    ) -> PyResult<Self> {
        let logits = arrays::floats_of("logits", logits, 1..=2)?;
        let rows = logits.rows();
        if logits.cols() >= MAX_VOCAB {
            let text = format!(
                "there are {} logits a row, but there must be fewer than {MAX_VOCAB}",
                logits.cols()
            );
            return Err(value_error(text));
        }
        check_sampling(&sampling.sampling()).map_err(|error| to_python(error.into()))?;
        let context = match context {
            None => None,
            Some(ids) => {
                let ids = arrays::ids("context", ids, 1..=2, logits.cols())?;
                let cols = ids.shape[ids.shape.len() - 1];
                let mut wanted = logits.shape.clone();
                wanted.pop();
                wanted.push(cols);
                arrays::expect_shape("context", &ids.shape, &wanted)?;
                Some((ids.values, cols))
            }
        };
        let len = context.as_ref().map_or(0, |(_, cols)| *cols);
        let seed = sampling.seed();
        let words = |row: usize| {
            let counter = counter.wrapping_add(row as u64);
            sampling.sampling().words(len, seed, counter)
        };
        // A tensor has at least one column.
        let (context, context_cols) = context.unwrap_or((vec![0; rows], 1));
        Ok(Self {
            settings: (0..rows).flat_map(words).collect(),
            logits,
            context,
            context_cols,
        })
    }

    fn push(&self, run: &mut HostRun) -> SampleRows {
        let rows = self.logits.rows();
        SampleRows {
            logits: run.floats(rows, self.logits.cols(), &self.logits.values),
            settings: run.words(rows, SETTINGS_WORDS, self.settings.clone()),
            context: run.words(rows, self.context_cols, self.context.clone()),
        }
    }
}

/// Logits after the repetition penalty, with minus infinity in place of those that may not be drawn.
///
/// Args:
///     logits: floats `[vocab_size]` or `[rows, vocab_size]`.
///     sampling: of which temperature, top_k, top_p, min_p and repetition_penalty count.
///     context: ids `[n]` or `[rows, n]` that the penalty is for.
///
/// Returns:
///     float32 of the shape of logits.
#[pyfunction]
#[pyo3(signature = (logits, sampling, context=None))]
pub(crate) fn sample_filter<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sampling: &SamplingConfig,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Array<'py>> {
    let rows = Rows::of(logits, sampling, context, 0)?;
    let [kept] = run(py, |run| {
        let pushed = rows.push(run);
        [kernel::filter(&mut run.plan, &pushed)]
    })?;
    arrays::array(py, kept, &rows.logits.shape)
}

/// Draws a token for each row of logits.
///
/// Args:
///     logits, sampling, context: as for `sample_filter`; the seed counts too.
///     counter: row r is the draw of that number plus r of the seed.
///
/// Returns:
///     int64 `[]` or `[rows]`.
///
/// Raises:
///     GpuTlmError: a row has NaN, or nothing but minus infinities.
#[pyfunction]
#[pyo3(signature = (logits, sampling, context=None, counter=0))]
pub(crate) fn sample<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sampling: &SamplingConfig,
    context: Option<&Bound<'py, PyAny>>,
    counter: u64,
) -> PyResult<IdArray<'py>> {
    let rows = Rows::of(logits, sampling, context, counter)?;
    let [tokens] = run_words(py, |run| {
        let pushed = rows.push(run);
        let tokens = run.plan.scratch("tokens", 1, rows.logits.rows());
        kernel::sample(&mut run.plan, &pushed, tokens);
        [tokens]
    })?;
    for (row, &token) in tokens.iter().enumerate() {
        let reason = match token {
            NAN_ROW => "NaN among its logits",
            NO_TOKEN => "no token that may be drawn",
            _ => continue,
        };
        return Err(GpuTlmError::new_err(format!("row {row} has {reason}")));
    }
    let shape = &rows.logits.shape[..rows.logits.shape.len() - 1];
    arrays::id_array(py, tokens.into_iter().map(i64::from).collect(), shape)
}
