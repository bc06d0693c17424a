//! Our errors as Python's, and what runs without the interpreter lock.

use std::any::Any;
use std::error::Error as _;
use std::ffi::CString;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gpu_tlm::gpu::GpuError;
use gpu_tlm::{Error, checkpoint::CheckpointError, config::ConfigError};
use pyo3::create_exception;
use pyo3::exceptions::{
    PyFileNotFoundError, PyMemoryError, PyOSError, PyRuntimeError, PyUserWarning, PyValueError,
};
use pyo3::prelude::*;

create_exception!(
    gpu_tlm,
    GpuTlmError,
    PyRuntimeError,
    "The device, a file's contents or a run failed. What was asked for wrongly is a ValueError or a TypeError."
);

/// What work without the interpreter lock can fail with.
pub(crate) enum Failure {
    /// Of the library.
    Ours(Error),
    /// Of Python: a signal, or an exception of a callback.
    Python(PyErr),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl Failure {
    fn into_python(self) -> PyErr {
        match self {
            Self::Ours(error) => to_python(error),
            Self::Python(error) => error,
        }
    }
}

/// Runs `work` without the interpreter lock. A panic is a bug of ours, and an exception like others.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> PyResult<T> {
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match result {
        Ok(result) => result.map_err(Failure::into_python),
        Err(panic) => Err(of_panic(panic.as_ref())),
    }
}

fn of_panic(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("it gave no reason");
    GpuTlmError::new_err(format!("a bug in gpu_tlm, please report it: {text}"))
}

/// The exception for an error of the library.
pub(crate) fn to_python(error: Error) -> PyErr {
    let text = error.to_string();
    if let Error::Gpu(GpuError::Device(_)) = &error {
        // A lost device stays lost; the next call opens another one.
        crate::device::forget();
    }
    if let Some(kind) = io_kind(&error) {
        return match kind {
            io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
            _ => PyOSError::new_err(text),
        };
    }
    match &error {
        Error::Gpu(GpuError::OutOfMemory { .. }) => PyMemoryError::new_err(text),
        Error::Gpu(GpuError::OverLimit { .. })
        | Error::Checkpoint(CheckpointError::BadModel {
            source: ConfigError::Invalid { .. } | ConfigError::Unsupported(_),
            ..
        }) => PyValueError::new_err(text),
        // What a program's own arrays hold, and not a file.
        Error::Tokenizer(gpu_tlm::data::tokenizer::TokenizerError::UnknownId { .. }) => {
            PyValueError::new_err(text)
        }
        _ if error.exit_code() == 2 => PyValueError::new_err(text),
        _ => GpuTlmError::new_err(text),
    }
}

/// The kind of the error of the file system that an error comes from, if it does.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    if let Error::Tokenizer(
        gpu_tlm::data::tokenizer::TokenizerError::Read { cause, .. }
        | gpu_tlm::data::tokenizer::TokenizerError::Write { cause, .. },
    ) = error
    {
        return Some(cause.kind());
    }
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return Some(cause.kind());
        }
        next = cause.source();
    }
    None
}

/// ENOENT, with which Python makes an error that tells its path.
const NOT_FOUND: i32 = 2;

/// Makes sure that there is something at `path`, so that what is missing is told as Python tells it.
pub(crate) fn expect_path(path: &Path) -> PyResult<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned().into_os_string();
            let reason = (NOT_FOUND, "No such file or directory", path);
            Err(PyFileNotFoundError::new_err(reason))
        }
        _ => Ok(()),
    }
}

/// Warns as Python does; where warnings are exceptions there, it is none here.
pub(crate) fn warn(py: Python<'_>, text: &str) {
    let category = py.get_type::<PyUserWarning>();
    if let Ok(text) = CString::new(text) {
        let _ = PyErr::warn(py, &category, &text, 1);
    }
}

/// The exception for a wrong value.
pub(crate) fn value_error(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

/// Raises what a signal, such as Ctrl-C, has led to.
pub(crate) fn check_signals() -> Result<(), Failure> {
    Python::attach(|py| py.check_signals()).map_err(Failure::Python)
}
