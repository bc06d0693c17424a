//! Norms of rows and of heads.

use gpu_tlm::gpu::{Elements, HostRun};
use gpu_tlm::kernels::attention::{AttentionShape, Qkv};
use gpu_tlm::kernels::head_norm::{self as head_kernel, Gains, HeadNormShape};
use gpu_tlm::kernels::sum::Sums;
use gpu_tlm::kernels::{Gradient, layernorm as layer_kernel, rmsnorm as rms_kernel};
use pyo3::prelude::*;

use super::run;
use crate::arrays::{self, Array, Floats, Three};
use crate::errors::value_error;

type Any<'py> = Bound<'py, PyAny>;

/// Rows, and vectors of as many columns.
fn inputs<const N: usize>(
    x: &Any<'_>,
    vectors: [(&str, &Any<'_>); N],
    eps: f32,
) -> PyResult<(Floats, [Floats; N])> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let mut all = Vec::with_capacity(N);
    for (name, value) in vectors {
        let vector = arrays::floats_of(name, value, 1..=1)?;
        arrays::expect_shape(name, &vector.shape, &[x.cols()])?;
        all.push(vector);
    }
    check_eps(eps)?;
    let all = all
        .try_into()
        .map_err(|_| value_error("arrays are missing"))?;
    Ok((x, all))
}

fn check_eps(eps: f32) -> PyResult<()> {
    match eps.is_finite() && eps >= 0.0 {
        true => Ok(()),
        false => Err(value_error(format!(
            "eps is {eps}, but it must be at least 0"
        ))),
    }
}

fn like_x(d_output: &Any<'_>, x: &Floats) -> PyResult<Floats> {
    let d_output = arrays::floats_of("d_output", d_output, 1..=usize::MAX)?;
    arrays::expect_shape("d_output", &d_output.shape, &x.shape)?;
    Ok(d_output)
}

fn gradient(run: &mut HostRun, rows: usize, cols: usize) -> Gradient {
    Gradient {
        tensor: run.plan.scratch("gradient", rows, cols),
        accumulate: false,
    }
}

/// RMSNorm over the last dimension (Zhang and Sennrich 2019).
///
/// Args:
///     x: floats `[..., n]`. weight: floats `[n]`. eps: added to the mean square.
#[pyfunction]
#[pyo3(signature = (x, weight, eps=1e-5))]
pub(crate) fn rmsnorm<'py>(
    py: Python<'py>,
    x: &Any<'py>,
    weight: &Any<'py>,
    eps: f32,
) -> PyResult<Array<'py>> {
    let (x, [weight]) = inputs(x, [("weight", weight)], eps)?;
    let [output] = run(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        let weight = run.floats(1, x.cols(), &weight.values);
        let (output, _) = rms_kernel::forward(&mut run.plan, input, weight, eps, Elements::Words);
        [output]
    })?;
    arrays::array(py, output, &x.shape)
}

/// The gradients of `rmsnorm` for x and weight.
///
/// Args:
///     x, weight, eps: as for `rmsnorm`. d_output: floats of the shape of x.
#[pyfunction]
#[pyo3(signature = (x, weight, d_output, eps=1e-5))]
pub(crate) fn rmsnorm_backward<'py>(
    py: Python<'py>,
    x: &Any<'py>,
    weight: &Any<'py>,
    d_output: &Any<'py>,
    eps: f32,
) -> PyResult<(Array<'py>, Array<'py>)> {
    let (x, [weight]) = inputs(x, [("weight", weight)], eps)?;
    let d_output = like_x(d_output, &x)?;
    let (rows, cols) = (x.rows(), x.cols());
    let [d_x, d_weight] = run(py, |run| {
        let input = run.floats(rows, cols, &x.values);
        let weight = run.floats(1, cols, &weight.values);
        let d_output = run.floats(rows, cols, &d_output.values);
        let (_, inv_rms) = rms_kernel::forward(&mut run.plan, input, weight, eps, Elements::Words);
        let (d_input, d_weight) = (gradient(run, rows, cols), gradient(run, 1, cols));
        let gradients = rms_kernel::Gradients {
            d_output,
            d_input,
            d_weight: Some(d_weight),
            halves: None,
        };
        let mut sums = Sums::default();
        let saved = rms_kernel::Saved { input, inv_rms };
        rms_kernel::backward(&mut run.plan, saved, weight, gradients, &mut sums);
        sums.flush(&mut run.plan);
        [d_input.tensor, d_weight.tensor]
    })?;
    Ok((
        arrays::array(py, d_x, &x.shape)?,
        arrays::array(py, d_weight, &[cols])?,
    ))
}

/// LayerNorm over the last dimension (Ba, Kiros and Hinton 2016).
///
/// Args:
///     x: floats `[..., n]`. weight, bias: floats `[n]`. eps: added to the biased variance.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, eps=1e-5))]
pub(crate) fn layernorm<'py>(
    py: Python<'py>,
    x: &Any<'py>,
    weight: &Any<'py>,
    bias: &Any<'py>,
    eps: f32,
) -> PyResult<Array<'py>> {
    let (x, [weight, bias]) = inputs(x, [("weight", weight), ("bias", bias)], eps)?;
    let [output] = run(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        let weight = run.floats(1, x.cols(), &weight.values);
        let bias = run.floats(1, x.cols(), &bias.values);
        let words = Elements::Words;
        let (output, _) = layer_kernel::forward(&mut run.plan, input, weight, bias, eps, words);
        [output]
    })?;
    arrays::array(py, output, &x.shape)
}

/// The gradients of `layernorm` for x, weight and bias.
///
/// Args:
///     x, weight, eps: as for `layernorm`. d_output: floats of the shape of x.
#[pyfunction]
#[pyo3(signature = (x, weight, d_output, eps=1e-5))]
pub(crate) fn layernorm_backward<'py>(
    py: Python<'py>,
    x: &Any<'py>,
    weight: &Any<'py>,
    d_output: &Any<'py>,
    eps: f32,
) -> PyResult<Three<'py>> {
    let (x, [weight]) = inputs(x, [("weight", weight)], eps)?;
    let d_output = like_x(d_output, &x)?;
    let (rows, cols) = (x.rows(), x.cols());
    let [d_x, d_weight, d_bias] = run(py, |run| {
        let input = run.floats(rows, cols, &x.values);
        let weight = run.floats(1, cols, &weight.values);
        // The gradients do not depend on it.
        let bias = run.floats(1, cols, &vec![0.0; cols]);
        let d_output = run.floats(rows, cols, &d_output.values);
        let words = Elements::Words;
        let (_, saved) = layer_kernel::forward(&mut run.plan, input, weight, bias, eps, words);
        let d_input = gradient(run, rows, cols);
        let [d_weight, d_bias] = [(); 2].map(|()| gradient(run, 1, cols));
        let gradients = layer_kernel::Gradients {
            d_output,
            d_input,
            d_weight: Some(d_weight),
            d_bias: Some(d_bias),
            halves: None,
        };
        let mut sums = Sums::default();
        layer_kernel::backward(&mut run.plan, saved, weight, gradients, &mut sums);
        sums.flush(&mut run.plan);
        [d_input.tensor, d_weight.tensor, d_bias.tensor]
    })?;
    Ok((
        arrays::array(py, d_x, &x.shape)?,
        arrays::array(py, d_weight, &[cols])?,
        arrays::array(py, d_bias, &[cols])?,
    ))
}

/// What both passes of the norm of heads take.
struct Heads {
    qkv: Floats,
    gains: [Floats; 2],
    shape: HeadNormShape,
}

impl Heads {
    fn of(
        qkv: &Any<'_>,
        gains: [&Any<'_>; 2],
        (num_heads, num_kv_heads): (usize, usize),
        eps: f32,
    ) -> PyResult<Self> {
        check_eps(eps)?;
        let qkv = arrays::floats_of("qkv", qkv, 2..=2)?;
        let query = arrays::floats_of("query_gain", gains[0], 1..=1)?;
        let key = arrays::floats_of("key_gain", gains[1], 1..=1)?;
        arrays::expect_shape("key_gain", &key.shape, &query.shape)?;
        let head_dim = query.cols();
        let heads = num_kv_heads
            .checked_mul(2)
            .and_then(|kv| kv.checked_add(num_heads));
        let cols = heads.and_then(|heads| heads.checked_mul(head_dim));
        if num_heads == 0 || num_kv_heads == 0 || cols != Some(qkv.cols()) {
            return Err(value_error(format!(
                "qkv has {} columns, but {num_heads} heads of queries and {num_kv_heads} of keys and values of \
                 {head_dim} elements each take others",
                qkv.cols()
            )));
        }
        Ok(Self {
            qkv,
            gains: [query, key],
            shape: HeadNormShape {
                num_heads,
                num_kv_heads,
                head_dim,
            },
        })
    }

    fn push(&self, run: &mut HostRun, eps: f32) -> (Qkv, head_kernel::Saved, Gains) {
        let HeadNormShape {
            num_heads,
            num_kv_heads,
            head_dim,
        } = self.shape;
        let shape = AttentionShape {
            batch: 1,
            query_rows: self.qkv.rows(),
            key_rows: self.qkv.rows(),
            num_heads,
            num_kv_heads,
            head_dim,
        };
        let qkv = run.floats(self.qkv.rows(), self.qkv.cols(), &self.qkv.values);
        let [query, key] = [0, 1].map(|i| run.floats(1, head_dim, &self.gains[i].values));
        let gains = Gains { query, key };
        let (normed, saved) =
            head_kernel::forward(&mut run.plan, shape.qkv(qkv), self.shape, gains, eps);
        (normed, saved, gains)
    }
}

/// RMSNorm of each head of queries and keys, as Qwen3 has it.
///
/// Args:
///     qkv: floats `[rows, (num_heads + 2 * num_kv_heads) * head_dim]`: queries, keys and values side by side.
///     query_gain, key_gain: floats `[head_dim]`.
///
/// Returns:
///     float32 of the shape of qkv; values are as they were.
#[pyfunction]
#[pyo3(signature = (qkv, query_gain, key_gain, num_heads, num_kv_heads, eps=1e-5))]
#[allow(clippy::too_many_arguments, reason = "one a keyword")]
pub(crate) fn head_norm<'py>(
    py: Python<'py>,
    qkv: &Any<'py>,
    query_gain: &Any<'py>,
    key_gain: &Any<'py>,
    num_heads: usize,
    num_kv_heads: usize,
    eps: f32,
) -> PyResult<Array<'py>> {
    let heads = Heads::of(qkv, [query_gain, key_gain], (num_heads, num_kv_heads), eps)?;
    let [output] = run(py, |run| [heads.push(run, eps).0.tensor])?;
    arrays::array(py, output, &heads.qkv.shape)
}

/// The gradients of `head_norm` for qkv, query_gain and key_gain.
///
/// Args:
///     d_output: floats of the shape of qkv. The rest: as for `head_norm`.
#[pyfunction]
#[pyo3(signature = (qkv, query_gain, key_gain, d_output, num_heads, num_kv_heads, eps=1e-5))]
#[allow(clippy::too_many_arguments, reason = "one a keyword")]
pub(crate) fn head_norm_backward<'py>(
    py: Python<'py>,
    qkv: &Any<'py>,
    query_gain: &Any<'py>,
    key_gain: &Any<'py>,
    d_output: &Any<'py>,
    num_heads: usize,
    num_kv_heads: usize,
    eps: f32,
) -> PyResult<Three<'py>> {
    let heads = Heads::of(qkv, [query_gain, key_gain], (num_heads, num_kv_heads), eps)?;
    let d_output = like_x(d_output, &heads.qkv)?;
    let head_dim = heads.shape.head_dim;
    let [d_qkv, d_query, d_key] = run(py, |run| {
        let (_, saved, gains) = heads.push(run, eps);
        let d_normed = run.floats(d_output.rows(), d_output.cols(), &d_output.values);
        let [d_query, d_key] = [(); 2].map(|()| gradient(run, 1, head_dim));
        let gradients = head_kernel::Gradients {
            d_normed,
            d_query_gain: Some(d_query),
            d_key_gain: Some(d_key),
        };
        let mut sums = Sums::default();
        head_kernel::backward(&mut run.plan, saved, gains, gradients, &mut sums);
        sums.flush(&mut run.plan);
        [d_normed, d_query.tensor, d_key.tensor]
    })?;
    Ok((
        arrays::array(py, d_qkv, &heads.qkv.shape)?,
        arrays::array(py, d_query, &[head_dim])?,
        arrays::array(py, d_key, &[head_dim])?,
    ))
}
