//! Parameters by name between Python's dicts of arrays and ours.

use gpu_tlm::weights::{HostTensor, ParameterTable};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays;
use crate::errors::value_error;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "token_embeddings.weight";

/// The tensors of a table from a dict of arrays.
pub(crate) fn tensors(
    table: &ParameterTable,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<Vec<HostTensor>> {
    let mut named = arrays::named(name, value)?;
    let py = value.py();
    let mut tensors = Vec::new();
    for parameter in table.iter() {
        let Some(at) = named.iter().position(|(key, _)| *key == parameter.name) else {
            let text = format!("{name} has no '{}', which the model has", parameter.name);
            return Err(value_error(text));
        };
        let (key, array) = named.swap_remove(at);
        let floats = arrays::floats(&key, array.bind(py))?;
        arrays::expect_shape(&key, &floats.shape, &parameter.shape())?;
        tensors.push(HostTensor::from_f32(&floats.values));
    }
    // PyTorch names a tied head twice.
    if table.config().tie_embeddings
        && let Some(at) = named.iter().position(|(key, _)| key == HEAD)
    {
        let (_, array) = named.swap_remove(at);
        let head = arrays::floats(HEAD, array.bind(py))?;
        let embedding = table.iter().position(|p| p.name == EMBEDDING);
        if embedding.is_none_or(|index| tensors[index].to_f32() != head.values) {
            let text =
                format!("{name}: '{HEAD}' is not '{EMBEDDING}', to which the config ties it");
            return Err(value_error(text));
        }
    }
    match named.first() {
        None => Ok(tensors),
        Some((key, _)) => {
            let text = format!("{name} has '{key}', which the model of this config does not have");
            Err(value_error(text))
        }
    }
}

/// A dict of arrays from the tensors of a table.
pub(crate) fn dict_of<'py>(
    py: Python<'py>,
    table: &ParameterTable,
    tensors: &[HostTensor],
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (parameter, tensor) in table.iter().zip(tensors) {
        let array = arrays::array(py, tensor.to_f32(), &parameter.shape())?;
        dict.set_item(&parameter.name, array)?;
    }
    Ok(dict)
}
