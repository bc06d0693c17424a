//! Models of other programs, in and out: Hugging Face's folders, PyTorch's checkpoints, GGUF, llama2.c, and
//! safetensors with plain names.

pub(crate) mod blocks;
mod elements;
mod error;
mod export;
mod family;
pub(crate) mod gguf;
pub(crate) mod hugging_face;
pub(crate) mod llama2c;
mod model;
mod names;
mod open;
mod optimizer;
pub(crate) mod peft;
mod plain;
mod rows;
pub(crate) mod safetensors;
pub(crate) mod shape;
mod tensors;
pub mod torch;

use std::path::Path;

pub use elements::StoredType;
pub use error::InteropError;
pub use export::{Changes, Exported, tensors};
pub use family::Family;
pub use gguf::{GgufFile, GgufValue};
pub use model::{ForeignModel, Taken};
pub use names::Naming;
pub use open::{Kind, kind_of, open};
pub use optimizer::StoredMoments;
pub use peft::PeftFolder;
pub use shape::Shape;
pub use tensors::{ElementType, TensorInfo, TensorSource};

/// The text of a small file.
fn read_text(path: &Path) -> Result<String, InteropError> {
    std::fs::read_to_string(path).map_err(|source| InteropError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
