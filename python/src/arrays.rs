//! Arrays between numpy and us: f32 and ids in, f32 and ids out, shapes checked.

use gpu_tlm::kernels::cross_entropy::IGNORED;
use numpy::{
    Element, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

/// Numbers for Python.
pub(crate) type Array<'py> = Bound<'py, PyArrayDyn<f32>>;
/// Ids for Python.
pub(crate) type IdArray<'py> = Bound<'py, PyArrayDyn<i64>>;
/// Gradients of three inputs, or parameters and moments.
pub(crate) type Three<'py> = (Array<'py>, Array<'py>, Array<'py>);

/// Numbers with their shape.
#[derive(Clone, Debug)]
pub(crate) struct Floats {
    pub(crate) values: Vec<f32>,
    pub(crate) shape: Vec<usize>,
}

impl Floats {
    /// Elements of the last dimension.
    pub(crate) fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The product of all dimensions but the last.
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.cols().max(1)
    }
}

/// Ids with their shape.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    pub(crate) values: Vec<u32>,
    pub(crate) shape: Vec<usize>,
}

fn as_array<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, String)> {
    let array = value
        .py()
        .import("numpy")?
        .call_method1("asarray", (value,))
        .map_err(|error| {
            let text = format!("{name} cannot be made an array: {error}");
            PyTypeError::new_err(text)
        })?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    Ok((array, kind))
}

fn dtype_of(array: &Bound<'_, PyAny>) -> String {
    let dtype = array.getattr("dtype").map(|dtype| dtype.to_string());
    dtype.unwrap_or_default()
}

/// `value` as f32: an array of floats, which are rounded where they are wider, or something that numpy makes one of.
pub(crate) fn floats(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Floats> {
    let (array, kind) = as_array(name, value)?;
    if kind != "f" {
        let text = format!(
            "{name} must be an array of floats, not of {}",
            dtype_of(&array)
        );
        return Err(PyTypeError::new_err(text));
    }
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let numpy = value.py().import("numpy")?;
    let dense = numpy.call_method1("ascontiguousarray", (array, numpy.getattr("float32")?))?;
    let dense: PyReadonlyArrayDyn<'_, f32> = dense.extract()?;
    let values = dense.as_slice().map_err(as_value_error)?.to_vec();
    Ok(Floats { values, shape })
}

/// `value`, which must be an array of just this type with at least one element, and its shape.
pub(crate) fn exactly<T: Element + Clone>(
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<(Vec<T>, Vec<usize>)> {
    let py = value.py();
    let (array, _) = as_array(name, value)?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let dense = py
        .import("numpy")?
        .call_method1("ascontiguousarray", (&array,))?;
    let Ok(dense) = dense.extract::<PyReadonlyArrayDyn<'_, T>>() else {
        let (wanted, found) = (T::get_dtype(py), dtype_of(&array));
        let text = format!("{name} must be an array of {wanted}, not of {found}");
        return Err(PyTypeError::new_err(text));
    };
    expect_dimensions(name, &shape, 1..=usize::MAX)?;
    let values = dense.as_slice().map_err(as_value_error)?.to_vec();
    Ok((values, shape))
}

/// [`floats`] with at least one element and so many dimensions.
pub(crate) fn floats_of(
    name: &str,
    value: &Bound<'_, PyAny>,
    dimensions: std::ops::RangeInclusive<usize>,
) -> PyResult<Floats> {
    let floats = floats(name, value)?;
    expect_dimensions(name, &floats.shape, dimensions)?;
    Ok(floats)
}

fn expect_dimensions(
    name: &str,
    shape: &[usize],
    wanted: std::ops::RangeInclusive<usize>,
) -> PyResult<()> {
    let shown = shown(shape);
    if !wanted.contains(&shape.len()) {
        let wanted = match (wanted.start(), wanted.end()) {
            (least, most) if least == most => format!("{least}"),
            (least, &usize::MAX) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let text = format!("{name} must have {wanted} dimension(s), but its shape is {shown}");
        return Err(PyValueError::new_err(text));
    }
    if shape.contains(&0) {
        let text = format!("{name} is empty: its shape is {shown}");
        return Err(PyValueError::new_err(text));
    }
    Ok(())
}

/// A shape as Python shows it.
pub(crate) fn shown(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    match &sizes[..] {
        [one] => format!("({one},)"),
        _ => format!("({})", sizes.join(", ")),
    }
}

/// Makes sure that `name` has the shape `wanted`.
pub(crate) fn expect_shape(name: &str, found: &[usize], wanted: &[usize]) -> PyResult<()> {
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (shown(found), shown(wanted));
    let text = format!("{name} must have the shape {wanted}, not {found}");
    Err(PyValueError::new_err(text))
}

/// PyTorch's `ignore_index`: the target of rows that do not count.
const IGNORE_INDEX: i64 = -100;

/// `value` as ids below `bound`: integers of any type, in so many dimensions.
pub(crate) fn ids(
    name: &str,
    value: &Bound<'_, PyAny>,
    dimensions: std::ops::RangeInclusive<usize>,
    bound: usize,
) -> PyResult<Ids> {
    let word = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < bound);
    words(name, value, dimensions, (word, bound))
}

/// [`ids`] among which [`IGNORE_INDEX`] gives `IGNORED`.
pub(crate) fn targets(
    name: &str,
    value: &Bound<'_, PyAny>,
    dimensions: std::ops::RangeInclusive<usize>,
    bound: usize,
) -> PyResult<Ids> {
    let word = |id: i64| match id {
        IGNORE_INDEX => Some(IGNORED),
        id => u32::try_from(id).ok().filter(|&id| (id as usize) < bound),
    };
    words(name, value, dimensions, (word, bound))
}

fn words(
    name: &str,
    value: &Bound<'_, PyAny>,
    dimensions: std::ops::RangeInclusive<usize>,
    (word, bound): (impl Fn(i64) -> Option<u32>, usize),
) -> PyResult<Ids> {
    let (array, kind) = as_array(name, value)?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    // An empty list is one of floats to numpy.
    if kind != "i" && kind != "u" && !shape.contains(&0) {
        let text = format!("{name} must be integers, not {}", dtype_of(&array));
        return Err(PyTypeError::new_err(text));
    }
    expect_dimensions(name, &shape, dimensions)?;
    let numpy = value.py().import("numpy")?;
    let dense = numpy.call_method1("ascontiguousarray", (array, numpy.getattr("int64")?))?;
    let dense: PyReadonlyArrayDyn<'_, i64> = dense.extract()?;
    let dense = dense.as_slice().map_err(as_value_error)?;
    let id = |(position, &id): (usize, &i64)| {
        word(id).ok_or_else(|| {
            let text = format!(
                "{name}: id {id} at position {position} is outside of 0 to {}",
                bound - 1
            );
            PyValueError::new_err(text)
        })
    };
    let values = dense.iter().enumerate().map(id).collect::<PyResult<_>>()?;
    Ok(Ids { values, shape })
}

/// Makes sure that there is memory for so many values, whose number may be one over all; what asks for more than
/// there is ends the process otherwise.
pub(crate) fn expect_memory(values: Option<usize>) -> PyResult<()> {
    let fits = |values: usize| Vec::<f32>::new().try_reserve_exact(values).is_ok();
    match values {
        Some(values) if fits(values) => Ok(()),
        Some(values) => Err(PyMemoryError::new_err(format!(
            "{values} values do not fit in memory; take fewer"
        ))),
        None => Err(PyMemoryError::new_err(
            "so many values do not fit in memory",
        )),
    }
}

/// Whether numpy would make numbers of it, rather than text.
pub(crate) fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<pyo3::types::PyString>()
}

/// A numpy array of f32.
pub(crate) fn array<'py>(
    py: Python<'py>,
    values: Vec<f32>,
    shape: &[usize],
) -> PyResult<Array<'py>> {
    PyArray1::from_vec(py, values).reshape(shape.to_vec())
}

/// A numpy array of int64.
pub(crate) fn id_array<'py>(
    py: Python<'py>,
    values: Vec<i64>,
    shape: &[usize],
) -> PyResult<IdArray<'py>> {
    PyArray1::from_vec(py, values).reshape(shape.to_vec())
}

/// A writable array of f32 that lies dense, to be changed in place.
pub(crate) fn in_place<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let Ok(array) = value.cast::<PyArrayDyn<f32>>() else {
        let found = match value.getattr("dtype") {
            Ok(dtype) => format!("{} of {dtype}", value.get_type().name()?),
            Err(_) => value.get_type().name()?.to_string(),
        };
        let text = format!(
            "{name} is changed in place, so it must be a numpy array of float32, not {found}"
        );
        return Err(PyTypeError::new_err(text));
    };
    let flags = value.getattr("flags")?;
    let writable: bool = flags.getattr("writeable")?.extract()?;
    if !array.is_c_contiguous() || !writable {
        let text =
            format!("{name} is changed in place, so it must be writable and contiguous in rows");
        return Err(PyValueError::new_err(text));
    }
    Ok(array.clone())
}

/// The values of an array that lies dense.
pub(crate) fn values(array: &Array<'_>) -> PyResult<Vec<f32>> {
    let values = array.try_readonly().map_err(as_value_error)?;
    Ok(values.as_slice().map_err(as_value_error)?.to_vec())
}

/// Writes `values` to an array of [`in_place`].
pub(crate) fn write(array: &Array<'_>, values: &[f32]) -> PyResult<()> {
    let mut array = array.try_readwrite().map_err(as_value_error)?;
    let slice = array.as_slice_mut().map_err(as_value_error)?;
    slice.copy_from_slice(values);
    Ok(())
}

/// A dict, or the items of another mapping as one.
pub(crate) fn dict<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if let Ok(dict) = value.cast::<PyDict>() {
        return Ok(Some(dict.clone()));
    }
    match value.cast::<PyMapping>() {
        Err(_) => Ok(None),
        Ok(mapping) => {
            let dict = PyDict::new(value.py());
            dict.update(mapping)?;
            Ok(Some(dict))
        }
    }
}

/// Arrays by name, in the order of the dict.
pub(crate) fn named(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Py<PyAny>)>> {
    let Some(dict) = dict(value)? else {
        let found = value.get_type().name()?;
        let text = format!("{name} must be a dict of names and arrays, not {found}");
        return Err(PyTypeError::new_err(text));
    };
    let pairs = dict.iter().map(|(key, array)| {
        let key: String = key
            .extract()
            .map_err(|_| PyTypeError::new_err(format!("{name} has a key that is no str: {key}")))?;
        Ok((key, array.unbind()))
    });
    pairs.collect()
}

fn as_value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}
