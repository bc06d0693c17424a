//! The matrix product, and what matrices may be stored as.

use gpu_tlm::kernels::dequantize::{BLOCK_LEN, dequantize_into};
use gpu_tlm::kernels::half as half_kernel;
use gpu_tlm::kernels::matmul::{self as kernel, Epilogue, Form};
use half::f16;
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use super::{run, run_words};
use crate::arrays::{self, Array};
use crate::errors::value_error;

/// A matrix product `[m, n]`.
///
/// Args:
///     a, b: float matrices.
///     form: 'nn' for a `[m, k]` and b `[k, n]` (the gradient of a linear layer's input), 'nt' for a `[m, k]` and
///         b `[n, k]` (a linear layer), 'tn' for a `[k, m]` and b `[k, n]` (the gradient of its weight).
#[pyfunction]
#[pyo3(signature = (a, b, form="nn"))]
pub(crate) fn matmul<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    form: &str,
) -> PyResult<Array<'py>> {
    let a = arrays::floats_of("a", a, 2..=2)?;
    let b = arrays::floats_of("b", b, 2..=2)?;
    let ([a0, a1], [b0, b1]) = ([a.shape[0], a.shape[1]], [b.shape[0], b.shape[1]]);
    let (form, m, n, depths) = match form {
        "nn" => (Form::Nn, a0, b1, [a1, b0]),
        "nt" => (Form::Nt, a0, b0, [a1, b1]),
        "tn" => (Form::Tn, a1, b1, [a0, b0]),
        other => {
            let text = format!("form is '{other}', but it must be 'nn', 'nt' or 'tn'");
            return Err(value_error(text));
        }
    };
    if depths[0] != depths[1] {
        let (a, b) = (arrays::shown(&a.shape), arrays::shown(&b.shape));
        return Err(value_error(format!(
            "shapes {a} and {b} do not fit: {} is not {}",
            depths[0], depths[1]
        )));
    }
    let [product] = run(py, |run| {
        let left = run.floats(a0, a1, &a.values);
        let right = run.floats(b0, b1, &b.values);
        let output = run.plan.scratch("output", m, n);
        kernel::matmul(&mut run.plan, form, left, right, output, Epilogue::Store);
        [output]
    })?;
    arrays::array(py, product, &[m, n])
}

/// Rounds floats to float16, to the nearest and ties to even.
///
/// Args:
///     x: floats of any shape.
///     factor: multiplies them first; None does not.
#[pyfunction]
#[pyo3(signature = (x, factor=None))]
pub(crate) fn halve<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    factor: Option<f32>,
) -> PyResult<Bound<'py, PyArrayDyn<f16>>> {
    let x = arrays::floats_of("x", x, 1..=usize::MAX)?;
    let [bits] = run_words(py, |run| {
        let input = run.floats(x.rows(), x.cols(), &x.values);
        let factor = factor.map(|factor| run.floats(1, 1, &[factor]));
        [half_kernel::halve(&mut run.plan, input, factor)]
    })?;
    let half = |bits| f16::from_bits(u16::try_from(bits).unwrap_or_default());
    let halves: Vec<f16> = bits.into_iter().map(half).collect();
    PyArray1::from_vec(py, halves).reshape(x.shape)
}

/// Float16 as float32.
///
/// Args:
///     x: float16 of any shape.
#[pyfunction]
pub(crate) fn widen<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let (halves, shape) = arrays::exactly::<f16>("x", x)?;
    let bits: Vec<u16> = halves.into_iter().map(f16::to_bits).collect();
    let cols = shape[shape.len() - 1];
    let [words] = run(py, |run| {
        let input = run.halves(bits.len() / cols, cols, &bits);
        [half_kernel::widen(&mut run.plan, input)]
    })?;
    arrays::array(py, words, &shape)
}

/// Blocks of 32 bytes with a scale each, ggml's q8_0, as float32.
///
/// Args:
///     quants: int8 `[rows, cols]`, cols a multiple of 32.
///     scales: float16 `[rows, cols / 32]`, finite and not negative.
///
/// Returns:
///     float32 `[rows, cols]`: each byte times the scale of its block.
#[pyfunction]
pub(crate) fn dequantize<'py>(
    py: Python<'py>,
    quants: &Bound<'py, PyAny>,
    scales: &Bound<'py, PyAny>,
) -> PyResult<Array<'py>> {
    let (quants, shape) = arrays::exactly::<i8>("quants", quants)?;
    let (scales, found) = arrays::exactly::<f16>("scales", scales)?;
    let &[rows, cols] = &shape[..] else {
        let text = format!(
            "quants must have 2 dimensions, not the shape {}",
            arrays::shown(&shape)
        );
        return Err(value_error(text));
    };
    if !cols.is_multiple_of(BLOCK_LEN) {
        let text = format!("quants have {cols} columns, which are no multiple of {BLOCK_LEN}");
        return Err(value_error(text));
    }
    arrays::expect_shape("scales", &found, &[rows, cols / BLOCK_LEN])?;
    if let Some(scale) = scales
        .iter()
        .find(|s| s.is_sign_negative() || !s.is_finite())
    {
        let text = format!("scales have {scale}, but a scale is finite and not negative");
        return Err(value_error(text));
    }
    let bits: Vec<u16> = scales.into_iter().map(f16::to_bits).collect();
    let [values] = run(py, |run| {
        let input = run.q8_0(rows, cols, &quants, &bits);
        let output = run.plan.scratch("output", rows, cols);
        dequantize_into(&mut run.plan, input, output);
        [output]
    })?;
    arrays::array(py, values, &shape)
}
