//! JSON between Python's objects and ours.

use gpu_tlm::config::{KEYS, ModelConfig, Resolved, Settings};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::arrays;
use crate::errors::{to_python as error_to_python, value_error};

/// A value as Python has it.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?
        .call_method1("loads", (value.to_string(),))
}

/// A dict as a JSON object; paths become their text.
pub(crate) fn object(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Map<String, Value>> {
    match arrays::dict(value)? {
        Some(dict) => dumped(name, dict.as_any()),
        None => Err(other_type(name, "dict", value)?),
    }
}

/// A list or tuple as JSON values.
pub(crate) fn list(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Value>> {
    match value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>() {
        true => dumped(name, value),
        false => Err(other_type(name, "list", value)?),
    }
}

fn other_type(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let found = value.get_type().name()?;
    let text = format!("{name} must be a {wanted}, not {found}");
    Ok(PyTypeError::new_err(text))
}

fn dumped<T: DeserializeOwned>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item("default", py.import("os")?.getattr("fspath")?)?;
    let text: String = py
        .import("json")?
        .call_method("dumps", (value,), Some(&options))
        .map_err(|error| {
            PyTypeError::new_err(format!("{name} cannot be written as JSON: {error}"))
        })?
        .extract()?;
    serde_json::from_str(&text)
        .map_err(|error| value_error(format!("{name} cannot be written as JSON: {error}")))
}

/// The settings of a dict, defaults elsewhere.
pub(crate) fn settings(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Resolved> {
    let mut values = object(name, value)?;
    values.remove("sources");
    values.retain(|key, value| !(value.is_null() && KEYS.contains(&key.as_str())));
    if let Some(key) = values.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(value_error(format!("unknown key '{key}' in {name}")));
    }
    let mut resolved = Resolved::of(Settings::default());
    resolved
        .fill(&values, "python")
        .map_err(|error| error_to_python(error.into()))?;
    Ok(resolved)
}

/// The shape of a model in a dict, defaults elsewhere. Other keys of a run are left aside.
pub(crate) fn model_config(value: &Bound<'_, PyAny>) -> PyResult<ModelConfig> {
    let resolved = settings("config", value)?;
    let model = resolved.settings.model(None);
    model.map_err(|error| error_to_python(error.into()))
}

/// A model's shape as a dict.
pub(crate) fn of_model<'py>(py: Python<'py>, config: &ModelConfig) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, &serde_json::to_value(config).unwrap_or_default())
}
