//! Causal attention with grouped heads.

use gpu_tlm::gpu::HostRun;
use gpu_tlm::kernels::attention::{self as kernel, AttentionShape, MAX_HEAD_DIM, Qkv, Saved};
use pyo3::prelude::*;

use super::run;
use crate::arrays::{self, Array, Floats, Three};
use crate::errors::value_error;

type Any<'py> = Bound<'py, PyAny>;

/// Queries, keys and values, and how they lie.
struct Inputs {
    query: Floats,
    key: Floats,
    value: Floats,
    shape: AttentionShape,
}

impl Inputs {
    fn of(query: &Any<'_>, key: &Any<'_>, value: &Any<'_>) -> PyResult<Self> {
        let query = arrays::floats_of("query", query, 4..=4)?;
        let key = arrays::floats_of("key", key, 4..=4)?;
        let value = arrays::floats_of("value", value, 4..=4)?;
        let &[batch, num_heads, time, head_dim] = &query.shape[..] else {
            return Err(value_error("query must have 4 dimensions"));
        };
        let num_kv_heads = key.shape[1];
        let wanted = [batch, num_kv_heads, time, head_dim];
        arrays::expect_shape("key", &key.shape, &wanted)?;
        arrays::expect_shape("value", &value.shape, &wanted)?;
        if num_heads % num_kv_heads != 0 {
            let text = format!("{num_kv_heads} heads of keys do not divide {num_heads} of queries");
            return Err(value_error(text));
        }
        if head_dim > MAX_HEAD_DIM || head_dim % 2 != 0 {
            let text =
                format!("head_dim is {head_dim}, but it must be even and at most {MAX_HEAD_DIM}");
            return Err(value_error(text));
        }
        Ok(Self {
            query,
            key,
            value,
            shape: AttentionShape {
                batch,
                query_rows: time,
                key_rows: time,
                num_heads,
                num_kv_heads,
                head_dim,
            },
        })
    }

    fn push(&self, run: &mut HostRun) -> Qkv {
        let shape = self.shape;
        let (rows, cols) = (shape.batch * shape.query_rows, shape.qkv_cols());
        let mut all = vec![0.0; rows * cols];
        let key_first = shape.num_heads * shape.head_dim;
        let value_first = key_first + shape.num_kv_heads * shape.head_dim;
        for (floats, first) in [
            (&self.query, 0),
            (&self.key, key_first),
            (&self.value, value_first),
        ] {
            each_head(&floats.shape, |at, row, col| {
                let to = row * cols + first + col;
                all[to..to + shape.head_dim]
                    .copy_from_slice(&floats.values[at..at + shape.head_dim]);
            });
        }
        shape.qkv(run.floats(rows, cols, &all))
    }
}

/// Calls `visit` for each position of each head of an array `[batch, heads, time, head_dim]`: its place there, and
/// its row and first column in a matrix `[batch * time, heads * head_dim]`.
fn each_head(shape: &[usize], mut visit: impl FnMut(usize, usize, usize)) {
    let [batch, heads, time, head_dim] = [0, 1, 2, 3].map(|i| shape[i]);
    for at in 0..batch * heads * time {
        let (sequence, head, position) = (at / (heads * time), at / time % heads, at % time);
        visit(at * head_dim, sequence * time + position, head * head_dim);
    }
}

/// Some heads of a matrix as an array `[batch, heads, time, head_dim]`.
fn heads_of(matrix: &[f32], cols: usize, first: usize, shape: &[usize]) -> Vec<f32> {
    let mut all = vec![0.0; shape.iter().product()];
    let head_dim = shape[3];
    each_head(shape, |at, row, col| {
        let from = row * cols + first + col;
        all[at..at + head_dim].copy_from_slice(&matrix[from..from + head_dim]);
    });
    all
}

/// Causal attention with scores scaled by `1 / sqrt(head_dim)`; groups of query heads share a head of keys and
/// values.
///
/// Args:
///     query: floats `[batch, num_heads, time, head_dim]`, head_dim even and at most 128.
///     key, value: floats `[batch, num_kv_heads, time, head_dim]`; num_kv_heads divides num_heads.
///
/// Returns:
///     float32 of the shape of query.
#[pyfunction]
pub(crate) fn attention<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
    value: &Any<'py>,
) -> PyResult<Array<'py>> {
    let inputs = Inputs::of(query, key, value)?;
    let [output] = run(py, |run| {
        let qkv = inputs.push(run);
        [kernel::forward(&mut run.plan, qkv, inputs.shape, None).0]
    })?;
    let cols = inputs.shape.num_heads * inputs.shape.head_dim;
    let shape = &inputs.query.shape;
    arrays::array(py, heads_of(&output, cols, 0, shape), shape)
}

/// The gradients of `attention` for query, key and value.
///
/// Args:
///     query, key, value: as for `attention`. d_output: floats of the shape of query.
#[pyfunction]
pub(crate) fn attention_backward<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
    value: &Any<'py>,
    d_output: &Any<'py>,
) -> PyResult<Three<'py>> {
    let inputs = Inputs::of(query, key, value)?;
    let shape = inputs.shape;
    let d_output = arrays::floats_of("d_output", d_output, 4..=4)?;
    arrays::expect_shape("d_output", &d_output.shape, &inputs.query.shape)?;
    let (rows, cols) = (
        shape.batch * shape.query_rows,
        shape.num_heads * shape.head_dim,
    );
    let mut d_rows = vec![0.0; rows * cols];
    each_head(&d_output.shape, |at, row, col| {
        let to = row * cols + col;
        d_rows[to..to + shape.head_dim].copy_from_slice(&d_output.values[at..at + shape.head_dim]);
    });
    let mut lies = None;
    let [d_qkv] = run(py, |run| {
        let qkv = inputs.push(run);
        let (output, log_sum_exp) = kernel::forward(&mut run.plan, qkv, shape, None);
        let d_output = run.floats(rows, cols, &d_rows);
        let saved = Saved {
            qkv,
            rotation: None,
            documents: None,
            output,
            log_sum_exp,
        };
        let gradients = kernel::backward(&mut run.plan, saved, d_output, shape);
        lies = Some((
            gradients.tensor.cols,
            gradients.key_first,
            gradients.value_first,
        ));
        [gradients.tensor]
    })?;
    let Some((cols, key_first, value_first)) = lies else {
        return Err(value_error("attention gave no gradients"));
    };
    let part = |first, floats: &Floats| {
        let values = heads_of(&d_qkv, cols, first, &floats.shape);
        arrays::array(py, values, &floats.shape)
    };
    Ok((
        part(0, &inputs.query)?,
        part(key_first, &inputs.key)?,
        part(value_first, &inputs.value)?,
    ))
}
