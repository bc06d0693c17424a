//! What is wrong, before the file's path is known to it.

use std::io;
use std::path::Path;

use crate::interop::InteropError;

/// An [`InteropError`] but for the path.
#[derive(Debug)]
pub(crate) enum Problem {
    Unreadable(io::Error),
    Damaged(String),
    Unsupported(String),
    Tensor { name: String, problem: String },
}

impl Problem {
    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged(problem.into())
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }

    /// `problem` is a verb and its object.
    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            name: name.to_owned(),
            problem: problem.into(),
        }
    }

    /// The error, of the file at `path`.
    pub(crate) fn at(self, path: &Path) -> InteropError {
        let path = path.to_owned();
        match self {
            Self::Unreadable(source) => InteropError::Unreadable { path, source },
            Self::Damaged(problem) => InteropError::Damaged {
                path,
                format: "PyTorch",
                problem,
            },
            Self::Unsupported(what) => InteropError::Unsupported { path, what },
            Self::Tensor { name, problem } => InteropError::Tensor {
                path,
                name,
                problem,
            },
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}
