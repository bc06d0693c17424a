//! The Python package `gpu_tlm`.
use pyo3::prelude::*;
#[pymodule(name = "_gpu_tlm")]
fn module(_m: &Bound<'_, PyModule>) -> PyResult<()> { Ok(()) }
