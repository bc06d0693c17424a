//! What is wrong with a chat, its template or a file of instruction data.

use std::path::PathBuf;

use crate::data::input::InputError;

/// An error of a chat.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file that cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A line of a file of instruction data.
    #[error("line {number} of '{}' {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: u64,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A file without a line.
    #[error("'{}' holds no example; write one JSON object a line, with messages, or prompt and completion", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A chat without a template.
    #[error(
        "the model's files have no chat template, without which messages are no text; add one as \
         chat_template.jinja beside tokenizer.json"
    )]
    NoTemplate,
    /// A template that cannot be rendered.
    #[error("the chat template {problem}")]
    Template {
        /// What is wrong, with the line where that is known.
        problem: String,
    },
}

impl ChatError {
    /// Whether the request was wrong, rather than a file.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Input(error) => error.is_usage(),
            Self::NoTemplate => true,
            _ => false,
        }
    }
}
