//! Causal attention with grouped heads.

use std::ops::Range;

use gpu_tlm::gpu::{Elements, HostRun};
use gpu_tlm::kernels::attention::{
    self as kernel, AttentionShape, Documents, MAX_HEAD_DIM, Qkv, Saved,
};
use gpu_tlm::kernels::attention_cache::{self as cache_kernel, Cache, CacheShape};
use gpu_tlm::kernels::attention_weights::{self as weights_kernel, Head};
use pyo3::prelude::*;

use super::{run, run_several};
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
        Self::new(
            arrays::floats_of("query", query, 4..=4)?,
            arrays::floats_of("key", key, 4..=4)?,
            arrays::floats_of("value", value, 4..=4)?,
        )
    }

    fn new(query: Floats, key: Floats, value: Floats) -> PyResult<Self> {
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
        let (rows, cols) = (
            self.shape.batch * self.shape.query_rows,
            self.shape.qkv_cols(),
        );
        self.shape.qkv(run.floats(rows, cols, &self.rows()))
    }

    /// Queries, keys and values side by side, `[batch * time, columns]`.
    fn rows(&self) -> Vec<f32> {
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
        all
    }

    /// Some positions of [`Self::rows`], a sequence each.
    fn rows_of(&self, positions: Range<usize>) -> Vec<Vec<f32>> {
        let cols = self.shape.qkv_cols();
        let part = positions.start * cols..positions.end * cols;
        let all = self.rows();
        let sequences = all.chunks(self.shape.query_rows * cols);
        sequences.map(|rows| rows[part.clone()].to_vec()).collect()
    }

    /// [`Self::rows_of`] as inputs of their own, which lie where any kernel can bind them.
    fn push_each(&self, run: &mut HostRun, positions: Range<usize>) -> Vec<Qkv> {
        let cols = self.shape.qkv_cols();
        let push = |rows: Vec<f32>| self.shape.qkv(run.floats(rows.len() / cols, cols, &rows));
        self.rows_of(positions).into_iter().map(push).collect()
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

/// Where each position's document begins and ends in its row, from a number a position.
struct Bounds {
    first: Vec<u32>,
    end: Vec<u32>,
}

impl Bounds {
    fn of(documents: Option<&Any<'_>>, shape: AttentionShape) -> PyResult<Option<Self>> {
        let Some(documents) = documents else {
            return Ok(None);
        };
        let ids = arrays::ids("documents", documents, 2..=2, u32::MAX as usize)?;
        let time = shape.key_rows;
        arrays::expect_shape("documents", &ids.shape, &[shape.batch, time])?;
        let mut bounds = Self {
            first: Vec::new(),
            end: Vec::new(),
        };
        for row in ids.values.chunks(time) {
            let mut first = 0;
            for document in row.chunk_by(|a, b| a == b) {
                let end = first + document.len();
                let same =
                    |position| vec![u32::try_from(position).unwrap_or(u32::MAX); document.len()];
                bounds.first.extend(same(first));
                bounds.end.extend(same(end));
                first = end;
            }
        }
        Ok(Some(bounds))
    }

    fn push(self, run: &mut HostRun) -> Documents {
        let rows = self.first.len();
        Documents {
            first: run.words(rows, 1, self.first),
            end: run.words(rows, 1, self.end),
        }
    }
}

/// Causal attention with scores scaled by `1 / sqrt(head_dim)`; groups of query heads share a head of keys and
/// values.
///
/// Args:
///     query: floats `[batch, num_heads, time, head_dim]`, head_dim even and at most 128.
///     key, value: floats `[batch, num_kv_heads, time, head_dim]`; num_kv_heads divides num_heads.
///     documents: integers `[batch, time]`; neighbours with the same number are one document, which sees itself
///         alone. None: each row is one.
///
/// Returns:
///     float32 of the shape of query.
#[pyfunction]
#[pyo3(signature = (query, key, value, documents=None))]
pub(crate) fn attention<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
    value: &Any<'py>,
    documents: Option<&Any<'py>>,
) -> PyResult<Array<'py>> {
    let inputs = Inputs::of(query, key, value)?;
    let bounds = Bounds::of(documents, inputs.shape)?;
    let [output] = run(py, |run| {
        let qkv = inputs.push(run);
        let documents = bounds.map(|bounds| bounds.push(run));
        [kernel::forward(&mut run.plan, qkv, inputs.shape, documents).0]
    })?;
    let cols = inputs.shape.num_heads * inputs.shape.head_dim;
    let shape = &inputs.query.shape;
    arrays::array(py, heads_of(&output, cols, 0, shape), shape)
}

/// The gradients of `attention` for query, key and value.
///
/// Args:
///     query, key, value, documents: as for `attention`. d_output: floats of the shape of query.
#[pyfunction]
#[pyo3(signature = (query, key, value, d_output, documents=None))]
pub(crate) fn attention_backward<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
    value: &Any<'py>,
    d_output: &Any<'py>,
    documents: Option<&Any<'py>>,
) -> PyResult<Three<'py>> {
    let inputs = Inputs::of(query, key, value)?;
    let bounds = Bounds::of(documents, inputs.shape)?;
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
        let documents = bounds.map(|bounds| bounds.push(run));
        let (output, log_sum_exp) = kernel::forward(&mut run.plan, qkv, shape, documents);
        let d_output = run.floats(rows, cols, &d_rows);
        let saved = Saved {
            qkv,
            rotation: None,
            documents,
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

/// What each query pays attention to: the softmax of its scores, for a look at heads.
///
/// Args:
///     query, key: as for `attention`.
///
/// Returns:
///     float32 `[batch, num_heads, time, time]`: rows of queries that sum to 1, with zeros for later keys.
#[pyfunction]
pub(crate) fn attention_weights<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
) -> PyResult<Array<'py>> {
    // The kernel finds queries and keys where they lie beside values, too.
    let inputs = Inputs::of(query, key, key)?;
    let AttentionShape {
        batch,
        key_rows: time,
        num_heads,
        num_kv_heads,
        head_dim,
        ..
    } = inputs.shape;
    let heads = run_several(py, |run| {
        let mut heads = Vec::new();
        for qkv in inputs.push_each(run, 0..time) {
            for number in 0..num_heads {
                let head = Head {
                    number,
                    group: num_heads / num_kv_heads,
                    head_dim,
                };
                let output = run.plan.scratch("weights", time, time);
                weights_kernel::weights(&mut run.plan, qkv, head, output);
                heads.push(output);
            }
        }
        heads
    })?;
    let weights = heads.into_iter().flatten().map(f32::from_bits).collect();
    arrays::array(py, weights, &[batch, num_heads, time, time])
}

/// The attention of the last position alone, as generation computes it: keys and values of those before it are put
/// into a cache first.
///
/// Args:
///     query: floats `[batch, num_heads, head_dim]`, of the last position.
///     key, value: floats `[batch, num_kv_heads, time, head_dim]`, of all positions.
///
/// Returns:
///     float32 of the shape of query.
#[pyfunction]
pub(crate) fn attention_cached<'py>(
    py: Python<'py>,
    query: &Any<'py>,
    key: &Any<'py>,
    value: &Any<'py>,
) -> PyResult<Array<'py>> {
    let query = arrays::floats_of("query", query, 3..=3)?;
    let key = arrays::floats_of("key", key, 4..=4)?;
    let (batch, num_heads, head_dim) = (query.shape[0], query.shape[1], query.shape[2]);
    let (num_kv_heads, time) = (key.shape[1], key.shape[2]);
    arrays::expect_shape("key", &key.shape, &[batch, num_kv_heads, time, head_dim])?;
    // What the queries before the last would be does not matter to a cache.
    let mut queries = Floats {
        values: vec![0.0; batch * num_heads * time * head_dim],
        shape: vec![batch, num_heads, time, head_dim],
    };
    let last = queries.values.chunks_mut(time * head_dim);
    for (head, own) in last.zip(query.values.chunks(head_dim)) {
        head[(time - 1) * head_dim..].copy_from_slice(own);
    }
    let value = arrays::floats_of("value", value, 4..=4)?;
    let inputs = Inputs::new(queries, key, value)?;
    let shape = CacheShape {
        slots: batch,
        capacity: time,
        num_heads,
        num_kv_heads,
        head_dim,
    };
    let [output] = run(py, |run| {
        let words = vec![0; shape.words(Elements::Words)];
        let tensor = run.words(1, words.len(), words);
        let position = u32::try_from(time - 1).unwrap_or(u32::MAX);
        let slots = 0..u32::try_from(batch).unwrap_or(u32::MAX);
        let mut cache = |slots: Range<u32>| Cache {
            tensor,
            shape,
            places: run.words(
                slots.len(),
                2,
                slots.flat_map(|slot| [slot, position]).collect(),
            ),
        };
        let all = cache(slots.clone());
        let each: Vec<Cache> = slots.map(|slot| cache(slot..slot + 1)).collect();
        if time > 1 {
            let earlier = inputs.push_each(run, 0..time - 1);
            for (qkv, cache) in earlier.into_iter().zip(each) {
                cache_kernel::fill(&mut run.plan, qkv, cache);
            }
        }
        let cols = inputs.shape.qkv_cols();
        let last = run.floats(batch, cols, &inputs.rows_of(time - 1..time).concat());
        [cache_kernel::attend(
            &mut run.plan,
            inputs.shape.qkv(last),
            all,
        )]
    })?;
    arrays::array(py, output, &query.shape)
}
