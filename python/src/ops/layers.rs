//! Ops over rows: the embedding, activations, softmax, biases and scales.

use gpu_tlm::kernels::embedding::{self as embedding_kernel, SegmentTensors, Segments};
use gpu_tlm::kernels::rope::{self as rope_kernel, RopeTable};
use gpu_tlm::kernels::sum::Sums;
use gpu_tlm::kernels::{
    Gradient, bias as bias_kernel, gelu as gelu_kernel, scale as scale_kernel,
    softmax as softmax_kernel, swiglu as swiglu_kernel,
};
use pyo3::prelude::*;

use super::run;
use crate::arrays::{self, Array, Floats};
use crate::errors::value_error;

/// Words that no adapter binds more of: 4 GiB.
const MOST_WORDS: usize = 1 << 30;

/// Floats of one shape.
fn alike<const N: usize>(named: [(&str, &Bound<'_, PyAny>); N]) -> PyResult<[Floats; N]> {
    let mut all = Vec::with_capacity(N);
    for (name, value) in named {
        let floats = arrays::floats_of(name, value, 1..=usize::MAX)?;
        if let Some(Floats { shape, .. }) = all.first() {
            arrays::expect_shape(name, &floats.shape, shape)?;
        }
        all.push(floats);
    }
    all.try_into()
        .map_err(|_| value_error("arrays are missing"))
}

/// Rows of an embedding.
///
/// Args:
///     weight: floats `[vocab_size, d_model]`.
///     ids: integers `[...]`, below vocab_size.
///
/// Returns:
///     float32 `[..., d_model]`.
#[pyfunction]
pub(crate) fn embedding<'py>(
    py: Python<'py>,
    weight: &Bound<'py, PyAny>,
    ids: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let weight = arrays::floats_of("weight", weight, 2..=2)?;
    let (vocab_size, cols) = (weight.shape[0], weight.shape[1]);
    let ids = arrays::ids("ids", ids, 0..=usize::MAX, vocab_size)?;
    let [output] = run(py, |run| {
        let weight = run.floats(vocab_size, cols, &weight.values);
        let tokens = run.words(1, ids.values.len(), ids.values);
        [embedding_kernel::forward(&mut run.plan, &[weight], tokens)]
    })?;
    let mut shape = ids.shape;
    shape.push(cols);
    arrays::array(py, output, &shape)
}

/// The gradient for an embedding `[vocab_size, d_model]`.
///
/// Args:
///     ids: integers `[...]`.
///     d_output: floats `[..., d_model]`.
///     vocab_size: rows of the embedding.
#[pyfunction]
pub(crate) fn embedding_backward<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    d_output: &Bound<'py, PyAny>,
    vocab_size: usize,
) -> PyResult<Array<'py>> {
    let d_output = arrays::floats_of("d_output", d_output, 1..=usize::MAX)?;
    let cols = d_output.cols();
    if vocab_size == 0 || vocab_size > MOST_WORDS / cols {
        return Err(value_error(format!(
            "vocab_size is {vocab_size}, but it must be from 1 to {}",
            MOST_WORDS / cols
        )));
    }
    let ids = arrays::ids("ids", ids, 0..=usize::MAX, vocab_size)?;
    let mut wanted = ids.shape.clone();
    wanted.push(cols);
    arrays::expect_shape("d_output", &d_output.shape, &wanted)?;
    let [d_weight] = run(py, |run| {
        let sorted = Segments::sort(&ids.values, vocab_size);
        let d_output = run.floats(ids.values.len(), cols, &d_output.values);
        let mut vector = |words: Vec<u32>| run.words(1, words.len(), words);
        let segments = SegmentTensors {
            order: vector(sorted.order),
            segment_starts: vector(sorted.segment_starts),
            token_segments: vector(sorted.token_segments),
        };
        let d_weight = run.plan.scratch("d_weight", vocab_size, cols);
        embedding_kernel::backward(&mut run.plan, d_output, &segments, &[d_weight], false);
        [d_weight]
    })?;
    arrays::array(py, d_weight, &[vocab_size, cols])
}

/// `silu(gate) * up`, element by element.
///
/// Args:
///     gate, up: floats of one shape.
#[pyfunction]
pub(crate) fn swiglu<'py>(
    py: Python<'py>,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let [gate, up] = alike([("gate", gate), ("up", up)])?;
    let (rows, cols) = (gate.rows(), gate.cols());
    let both = side_by_side(&[(&gate.values, cols), (&up.values, cols)], rows);
    let [output] = run(py, |run| {
        let both = run.floats(rows, 2 * cols, &both);
        let output = run.plan.scratch("output", rows, cols);
        swiglu_kernel::forward_into(&mut run.plan, both, cols, output);
        [output]
    })?;
    arrays::array(py, output, &gate.shape)
}

/// The gradients of `swiglu` for gate and up.
///
/// Args:
///     gate, up, d_output: floats of one shape.
#[pyfunction]
pub(crate) fn swiglu_backward<'py>(
    py: Python<'py>,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
    d_output: &Bound<'py, PyAny>,
) -> PyResult<(Array<'py>, Array<'py>)> {
    let [gate, up, d_output] = alike([("gate", gate), ("up", up), ("d_output", d_output)])?;
    let (rows, cols) = (gate.rows(), gate.cols());
    let both = side_by_side(&[(&gate.values, cols), (&up.values, cols)], rows);
    let [d_both] = run(py, |run| {
        let both = run.floats(rows, 2 * cols, &both);
        let d_output = run.floats(rows, cols, &d_output.values);
        [swiglu_kernel::backward(&mut run.plan, both, cols, d_output)]
    })?;
    let half = |first| arrays::array(py, columns(&d_both, 2 * cols, first, cols), &gate.shape);
    Ok((half(0)?, half(cols)?))
}

/// Matrices of `rows` rows, given with their columns, beside each other.
pub(super) fn side_by_side(parts: &[(&[f32], usize)], rows: usize) -> Vec<f32> {
    let row = |row: usize| {
        let parts = parts.iter();
        parts.flat_map(move |(values, cols)| &values[row * cols..(row + 1) * cols])
    };
    (0..rows).flat_map(row).copied().collect()
}

/// Some columns of a matrix with `cols`.
pub(super) fn columns(values: &[f32], cols: usize, first: usize, count: usize) -> Vec<f32> {
    let rows = values.chunks_exact(cols);
    rows.flat_map(|row| &row[first..first + count])
        .copied()
        .collect()
}

/// GELU by its tanh approximation, `torch.nn.functional.gelu(x, approximate='tanh')`.
///
/// Args:
///     x: floats of any shape.
#[pyfunction]
pub(crate) fn gelu<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let [output] = run(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        let output = run.plan.scratch("output", x.rows(), x.cols());
        gelu_kernel::forward_into(&mut run.plan, input, output);
        [output]
    })?;
    arrays::array(py, output, &x.shape)
}

/// The gradient of `gelu`.
///
/// Args:
///     x, d_output: floats of one shape.
#[pyfunction]
pub(crate) fn gelu_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    d_output: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let [x, d_output] = alike([("x", x), ("d_output", d_output)])?;
    let [d_x] = run(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        let d_output = run.floats(x.rows(), x.cols(), &d_output.values);
        [gelu_kernel::backward(&mut run.plan, input, d_output)]
    })?;
    arrays::array(py, d_x, &x.shape)
}

/// Softmax over the last dimension.
///
/// Args:
///     x: floats of any shape.
#[pyfunction]
pub(crate) fn softmax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let [output] = run(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        [softmax_kernel::forward(&mut run.plan, input)]
    })?;
    arrays::array(py, output, &x.shape)
}

/// The gradient of `softmax` for its input.
///
/// Args:
///     output: what `softmax` gave.
///     d_output: floats of its shape.
#[pyfunction]
pub(crate) fn softmax_backward<'py>(
    py: Python<'py>,
    output: &Bound<'py, PyAny>,
    d_output: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let [output, d_output] = alike([("output", output), ("d_output", d_output)])?;
    let (rows, cols) = (output.rows(), output.cols());
    let [d_x] = run(py, |run| {
        let probabilities = run.floats(rows, cols, &output.values);
        let d_output = run.floats(rows, cols, &d_output.values);
        [softmax_kernel::backward(
            &mut run.plan,
            probabilities,
            d_output,
        )]
    })?;
    arrays::array(py, d_x, &output.shape)
}

/// x with a bias added to the last dimension.
///
/// Args:
///     x: floats `[..., n]`. bias: floats `[n]`.
#[pyfunction]
pub(crate) fn bias<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    bias: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let bias = arrays::floats_of("bias", bias, 1..=1)?;
    arrays::expect_shape("bias", &bias.shape, &[x.cols()])?;
    let [output] = run(py, |run| {
        let values = run.floats(x.rows(), x.cols(), &x.values);
        let bias = run.floats(1, x.cols(), &bias.values);
        bias_kernel::forward(&mut run.plan, values, 0, bias);
        [values]
    })?;
    arrays::array(py, output, &x.shape)
}

/// The gradient of `bias` for the bias, `[n]`.
///
/// Args:
///     d_output: floats `[..., n]`.
#[pyfunction]
pub(crate) fn bias_backward<'py>(
    py: Python<'py>,
    d_output: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let d_output = arrays::floats_of("d_output", d_output, 1..=usize::MAX)?;
    let cols = d_output.cols();
    let [d_bias] = run(py, |run| {
        let input = run.floats(d_output.rows(), cols, &d_output.values);
        let d_bias = Gradient {
            tensor: run.plan.scratch("d_bias", 1, cols),
            accumulate: false,
        };
        let mut sums = Sums::default();
        bias_kernel::backward(&mut run.plan, input, 0, d_bias, &mut sums);
        sums.flush(&mut run.plan);
        [d_bias.tensor]
    })?;
    arrays::array(py, d_bias, &[cols])
}

/// x times a factor.
///
/// Args:
///     x: floats of any shape.
#[pyfunction]
pub(crate) fn scale<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    factor: f32,
) -> PyResult<Array<'py>> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let [output] = run(py, |run| {
        let values = run.floats(x.rows(), x.cols(), &x.values);
        scale_kernel::scale(&mut run.plan, values, factor);
        [values]
    })?;
    arrays::array(py, output, &x.shape)
}

/// Rotary position embedding of one head: elements `2 i` and `2 i + 1` are turned by
/// `position * theta ** (-2 i / head_dim)`.
///
/// Args:
///     x: floats `[..., time, head_dim]`, head_dim even.
///     theta: base of the angles.
///     positions: integers `[time]`; 0 to time - 1 where there are none.
#[pyfunction]
#[pyo3(signature = (x, theta=10_000.0, positions=None))]
pub(crate) fn rope<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    theta: f64,
    positions: Option<&Bound<'py, PyAny>>,
) -> PyResult<Array<'py>> {
    turned(py, ("x", x), theta, positions, 1.0)
}

/// The gradient of `rope` for its input: turned back.
///
/// Args:
///     d_output: floats `[..., time, head_dim]`. theta, positions: as for `rope`.
#[pyfunction]
#[pyo3(signature = (d_output, theta=10_000.0, positions=None))]
pub(crate) fn rope_backward<'py>(
    py: Python<'py>,
    d_output: &Bound<'py, PyAny>,
    theta: f64,
    positions: Option<&Bound<'py, PyAny>>,
) -> PyResult<Array<'py>> {
    turned(py, ("d_output", d_output), theta, positions, -1.0)
}

/// Positions that a rotation may have.
const MOST_POSITIONS: usize = 1 << 31;

fn turned<'py>(
    py: Python<'py>,
    (name, x): (&str, &Bound<'py, PyAny>),
    theta: f64,
    positions: Option<&Bound<'py, PyAny>>,
    direction: f32,
) -> PyResult<Array<'py>> {
    let x = arrays::floats_of(name, x, 2..=usize::MAX)?;
    let (time, head_dim) = (x.shape[x.shape.len() - 2], x.cols());
    if !head_dim.is_multiple_of(2) {
        return Err(value_error(format!(
            "head_dim is {head_dim}, but it must be even"
        )));
    }
    if !(theta.is_finite() && theta > 0.0) {
        return Err(value_error(format!(
            "theta is {theta}, but it must be over 0"
        )));
    }
    let frequencies = rope_kernel::frequencies(head_dim, theta);
    let positions: Vec<usize> = match positions {
        None => (0..time).collect(),
        Some(positions) => {
            let positions = arrays::ids("positions", positions, 1..=1, MOST_POSITIONS)?;
            arrays::expect_shape("positions", &positions.shape, &[time])?;
            positions.values.into_iter().map(|at| at as usize).collect()
        }
    };
    let angles = positions
        .into_iter()
        .flat_map(|at| rope_kernel::angles_at(at, &frequencies));
    // Sines are every second number.
    let angles: Vec<f32> = angles
        .enumerate()
        .map(|(i, value)| if i % 2 == 1 { direction * value } else { value })
        .collect();
    let [output] = run(py, |run| {
        let values = run.floats(x.rows(), head_dim, &x.values);
        let table = RopeTable {
            angles: run.floats(time, head_dim, &angles),
        };
        rope_kernel::forward(&mut run.plan, table, values, 1);
        [values]
    })?;
    arrays::array(py, output, &x.shape)
}
