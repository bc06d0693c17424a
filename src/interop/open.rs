//! Finds out what a file or folder is, by what is in it.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::names::Naming;
use super::safetensors::Safetensors;
use super::shape::Shape;
use super::torch::TorchFile;
use super::{ForeignModel, InteropError, TensorSource, gguf, hugging_face, llama2c, peft, plain};
use crate::config::{ModelConfig, Settings};

/// What a file or folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder of `transformers`.
    HuggingFace,
    /// A folder of PEFT: adapters of a model that lies elsewhere.
    Peft,
    /// A safetensors file, ours or another's.
    Safetensors,
    /// A file of llama.cpp.
    Gguf,
    /// A file of llama2.c.
    Llama2c,
    /// A file of `torch.save`.
    Torch,
}

/// What lies at `path`.
///
/// # Errors
/// When it cannot be read, or is of no format that is known.
pub fn kind_of(path: &Path) -> Result<Kind, InteropError> {
    let unreadable = |source| InteropError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let unknown = |found: &'static str| InteropError::Unknown {
        path: path.to_owned(),
        found,
    };
    if path.is_dir() {
        return match hugging_face::is_one(path) {
            _ if peft::is_one(path) => Ok(Kind::Peft),
            true if path.join("checkpoints").is_dir() => Err(unknown(
                "the folder of a run, whose model is checkpoints/latest.safetensors",
            )),
            true => Ok(Kind::HuggingFace),
            false => Err(unknown("a folder without config.json")),
        };
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    file.take(32).read_to_end(&mut start).map_err(unreadable)?;
    match start[..] {
        _ if start.starts_with(&gguf::MAGIC) => Ok(Kind::Gguf),
        [b'P', b'K', 3, 4, ..] => Ok(Kind::Torch),
        // The length of a header and its first character. A pickle begins by two bytes that may begin a length.
        [_, _, _, _, _, _, 0, 0, b'{', ..] => Ok(Kind::Safetensors),
        [0x80, 2..=5, ..] => Ok(Kind::Torch),
        _ if path.extension().is_some_and(|e| e == "safetensors") => Ok(Kind::Safetensors),
        _ if llama2c::may_be_one(&start, len) => Ok(Kind::Llama2c),
        _ => Err(unknown("a file of no format that is known")),
    }
}

/// Opens the model at `path`.
///
/// # Errors
/// When it is missing, damaged, of no format that is known, or of a kind that is not supported.
pub fn open(path: &Path) -> Result<ForeignModel, InteropError> {
    match kind_of(path)? {
        Kind::HuggingFace => open_folder(path),
        Kind::Peft => Err(InteropError::Unknown {
            path: path.to_owned(),
            found: "a folder of adapters without a model",
        }),
        Kind::Torch => open_torch(path),
        Kind::Gguf => {
            let (config, naming, source) = gguf::open(path)?;
            ForeignModel::of_gguf(naming, Shape::of(&config), source)
        }
        Kind::Llama2c => {
            let source = llama2c::Llama2cFile::open(path)?;
            let config = source.header().config();
            let format = match source.version() {
                llama2c::Version::Zero => "llama2.c, version 0",
                llama2c::Version::One => "llama2.c, version 1",
            };
            let shape = Shape::of(&config);
            Ok(ForeignModel::new(
                format,
                Naming::Plain,
                shape,
                Box::new(source),
            ))
        }
        Kind::Safetensors => {
            // Of a folder of transformers, one may name the file as well.
            let folder = path.parent().filter(|folder| hugging_face::is_one(folder));
            let source = Safetensors::open(path)?;
            let has_ours = |t: &super::TensorInfo| t.name == "token_embeddings.weight";
            let is_plain = source.tensors().iter().any(has_ours);
            match folder {
                Some(folder) if !is_plain => open_folder(folder),
                _ => Ok(ForeignModel::new(
                    "safetensors",
                    Naming::Plain,
                    Shape::told(plain::known(&source)),
                    Box::new(source),
                )),
            }
        }
    }
}

fn open_folder(path: &Path) -> Result<ForeignModel, InteropError> {
    let (config, naming, source) = hugging_face::open(path)?;
    let shape = Shape::of(&config);
    let mut model = ForeignModel::new("Hugging Face folder", naming, shape, source);
    model.untie_where_heads_differ()?;
    Ok(model)
}

/// A checkpoint of PyTorch, whose metadata may have keys of the model's shape, itself or in an object such as
/// `config`.
fn open_torch(path: &Path) -> Result<ForeignModel, InteropError> {
    let file = TorchFile::open(path)?;
    let mut shape = Shape::told(plain::known(&file));
    let of = |name: &str| file.tensors().iter().position(|t| t.name == name);
    if let (Some(embedding), Some(head)) = (of("token_embeddings.weight"), of("lm_head.weight")) {
        let is_tied = file.tied()[head] == embedding;
        shape.tell("tie_embeddings", is_tied.into());
    }
    let metadata = file.metadata();
    let objects = metadata.values().filter_map(Value::as_object);
    for object in objects.chain([metadata]) {
        for (key, value) in object {
            // Others may mean something else by a name.
            if ModelConfig::is_of_shape(key) && !value.is_null() && Settings::takes(key, value) {
                shape.hint(key, value);
            }
        }
    }
    Ok(ForeignModel::of_torch(shape, file))
}
