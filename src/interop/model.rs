//! A model in a file or folder of another program: what is known of its shape, and its parameters as ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::gguf::{self, GgufFile};
use super::names::{Naming, Place};
use super::optimizer::{self, StoredMoments};
use super::shape::Shape;
use super::torch::TorchFile;
use super::{ElementType, InteropError, TensorInfo, TensorSource, elements, rows};
use crate::config::ModelConfig;
use crate::data::tokenizer::{GgufTokenizer, TokenRoles, Tokenizer, TokenizerError};
use crate::weights::{HostTensor, Parameter, ParameterTable};

/// A model of another program.
pub struct ForeignModel {
    pub(super) source: Box<dyn TensorSource>,
    pub(super) naming: Naming,
    shape: Shape,
    /// Place of each tensor in the source, by its whole name.
    index: BTreeMap<String, usize>,
    /// The name of the format, for messages.
    pub(super) format: &'static str,
    /// The file of PyTorch, which may hold the state of an optimizer.
    torch: Option<Arc<TorchFile>>,
    /// The tokenizer in a file of llama.cpp.
    gguf_tokenizer: Option<GgufTokenizer>,
}

/// A tensor that a model takes.
#[derive(Clone, Debug)]
pub struct Taken {
    /// As in the file.
    pub name: String,
    /// How its elements are stored.
    pub element_type: ElementType,
    /// Whether the rows of each head are put in another order.
    pub is_permuted: bool,
    /// Whether it is transposed.
    pub is_transposed: bool,
    /// Whether several parameters are parts of it.
    pub is_joined: bool,
}

impl ForeignModel {
    /// The model whose tensors `source` has, with names as `naming` has them, and of whose shape so much is known.
    pub fn new(
        format: &'static str,
        naming: Naming,
        shape: Shape,
        source: Box<dyn TensorSource>,
    ) -> Self {
        let tensors = source.tensors();
        // A model without its head is saved without the prefix.
        let prefix = match naming {
            Naming::Llama => "model.",
            Naming::Gpt2 => "transformer.",
            _ => "",
        };
        let has_prefix = tensors.iter().any(|t| t.name.starts_with(prefix));
        let whole = |tensor: &TensorInfo| match has_prefix || tensor.name.starts_with("lm_head.") {
            true => tensor.name.clone(),
            false => format!("{prefix}{}", tensor.name),
        };
        Self {
            index: tensors.iter().map(whole).zip(0..).collect(),
            source,
            naming,
            shape,
            format,
            torch: None,
            gguf_tokenizer: None,
        }
    }

    /// The model in a checkpoint of PyTorch.
    pub(super) fn of_torch(shape: Shape, file: TorchFile) -> Self {
        let file = Arc::new(file);
        let source = Box::new(file.clone());
        Self {
            torch: Some(file),
            ..Self::new("PyTorch checkpoint", Naming::Plain, shape, source)
        }
    }

    /// The model in a file of llama.cpp.
    pub(super) fn of_gguf(
        naming: Naming,
        shape: Shape,
        file: GgufFile,
    ) -> Result<Self, InteropError> {
        Ok(Self {
            gguf_tokenizer: gguf::read_tokenizer(&file)?,
            ..Self::new("GGUF", naming, shape, Box::new(file))
        })
    }

    /// The tokenizer that came with the model, and the roles of its tokens, if one did.
    ///
    /// # Errors
    /// When it is damaged or of a kind that is not supported.
    pub fn tokenizer(&self) -> Result<Option<(Tokenizer, TokenRoles)>, TokenizerError> {
        if let Some(tokenizer) = &self.gguf_tokenizer {
            return tokenizer.tokenizer(self.path()).map(Some);
        }
        // A shard or an index lies in its folder, too.
        let path = self.path();
        let folder = match path.is_dir() {
            true => Some(path),
            false => path.parent(),
        };
        let is_of_folder = self.naming == Naming::Llama || self.naming == Naming::Gpt2;
        match folder.filter(|folder| is_of_folder && folder.join("tokenizer.json").is_file()) {
            None => Ok(None),
            Some(folder) => {
                let tokenizer = Tokenizer::load(folder)?;
                let roles = TokenRoles::load(folder, &tokenizer)?;
                Ok(Some((tokenizer, roles)))
            }
        }
    }

    /// Both moments of AdamW of each parameter of `table`, and the steps that were made, if the file has them.
    ///
    /// # Errors
    /// When the optimizer's parameters are not the model's, or a tensor is damaged; the error names it.
    pub fn moments(&self, table: &ParameterTable) -> Result<Option<StoredMoments>, InteropError> {
        match &self.torch {
            Some(file) => optimizer::moments(file, table),
            None => Ok(None),
        }
    }

    /// Steps of training that the file says were made.
    pub fn iteration(&self) -> Option<u64> {
        self.torch.as_ref()?.iteration()
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// The name of the format.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// Every key of a [`ModelConfig`] that is known: by the file, or since somebody gave it.
    pub fn known(&self) -> Map<String, Value> {
        self.shape.keys(&*self.source)
    }

    /// Adds keys that somebody knows to those that the file tells.
    ///
    /// # Errors
    /// When the file tells another value. A context may be another than the model's: longer or shorter where
    /// positions are angles, and shorter where each has a vector.
    pub fn give(&mut self, keys: &Map<String, Value>) -> Result<(), InteropError> {
        self.shape.give(self.source.path(), keys)
    }

    /// Takes back that the head is the embedding, where the file has a head of its own that differs: then
    /// `transformers` does not tie them either.
    ///
    /// # Errors
    /// When the file is damaged there.
    pub(super) fn untie_where_heads_differ(&mut self) -> Result<(), InteropError> {
        let name = |own: &str| self.naming.tensor(own);
        let of = |own: &str| self.index.get(&name(own)).copied();
        let (embedding, head) = (of("token_embeddings.weight"), of("lm_head.weight"));
        if let (Some(embedding), Some(head)) = (embedding, head)
            && self.known().get("tie_embeddings") == Some(&Value::Bool(true))
            && self.source.read(embedding)? != self.source.read(head)?
        {
            self.shape.tell("tie_embeddings", Value::Bool(false));
        }
        Ok(())
    }

    /// The model's shape.
    ///
    /// # Errors
    /// When the file does not tell all of it, or it is none that can be built.
    pub fn config(&self) -> Result<ModelConfig, InteropError> {
        const NEEDED: &[&str] = &[
            "vocab_size",
            "context_length",
            "d_model",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "d_ff",
        ];
        let path = || self.path().to_owned();
        let mut known = self.known();
        let missing = NEEDED.iter().filter(|key| !known.contains_key(**key));
        let keys: Vec<&'static str> = missing.copied().collect();
        if !keys.is_empty() {
            return Err(InteropError::Incomplete { path: path(), keys });
        }
        for (key, value) in [("rope_theta", 10_000.0), ("norm_eps", 1e-5)] {
            known.entry(key).or_insert(value.into());
        }
        let read = serde_json::from_value(Value::Object(known));
        let config: ModelConfig = read.map_err(|e| InteropError::Damaged {
            path: path(),
            format: self.format,
            problem: e.to_string(),
        })?;
        let config = config.normalised();
        config.check().map_err(|source| InteropError::BadModel {
            path: path(),
            source,
        })?;
        let tensors = self.source.tensors().len();
        if config.num_layers > tensors {
            return Err(InteropError::Damaged {
                path: path(),
                format: self.format,
                problem: format!(
                    "it would have {} layers of {tensors} tensors",
                    config.num_layers
                ),
            });
        }
        Ok(config)
    }

    /// Checks that the tensors are those of a model of `config`, in name and shape; gives what is left.
    ///
    /// # Errors
    /// When one is missing, is of another shape or type, or has no place in the model; the error names it.
    pub fn check(&self, config: &ModelConfig) -> Result<Vec<String>, InteropError> {
        let table = ParameterTable::new(config, &[], usize::MAX);
        let mut taken = BTreeSet::new();
        for parameter in table.iter() {
            let place = self.place(config, parameter);
            let (_, number) = self.tensor_of(parameter, &place)?;
            taken.insert(number);
        }
        let mut left = Vec::new();
        for (name, number) in &self.index {
            if taken.contains(number) {
                continue;
            }
            if !self.is_no_weight(config, name) {
                let name = self.source.tensors()[*number].name.clone();
                let path = self.path().to_owned();
                return Err(InteropError::Extra { path, name });
            }
            left.push(name.clone());
        }
        Ok(left)
    }

    /// What the parameters of `table`, which are all there, are made of.
    pub fn taken(&self, table: &ParameterTable) -> Vec<Taken> {
        let mut all: Vec<Taken> = Vec::new();
        for parameter in table.iter() {
            let place = self.place(table.config(), parameter);
            let Ok((info, _)) = self.tensor_of(parameter, &place) else {
                continue;
            };
            if all.last().is_none_or(|last| last.name != info.name) {
                all.push(Taken {
                    name: info.name.clone(),
                    element_type: info.element_type,
                    is_permuted: place.half_split.is_some(),
                    is_transposed: place.is_transposed,
                    is_joined: place.total_rows > place.rows.len(),
                });
            }
        }
        all
    }

    /// Whether a tensor is a buffer that follows from the config, or a head that is the embedding.
    fn is_no_weight(&self, config: &ModelConfig, name: &str) -> bool {
        let is_head = config.tie_embeddings && name == self.naming.tensor("lm_head.weight");
        // Masks, and tables of angles, by the names that modules of others have for them.
        const BUFFERS: &[&str] = &[
            "inv_freq",
            ".attn.bias",
            ".masked_bias",
            "mask",
            ".cos",
            ".sin",
            "cos_cached",
            "sin_cached",
            "cos_cache",
            "sin_cache",
        ];
        let is_buffer = BUFFERS.iter().any(|end| name.ends_with(end));
        is_head || is_buffer || name == gguf::ROPE_FREQS
    }

    fn place(&self, config: &ModelConfig, parameter: &Parameter) -> Place {
        let is_vector = parameter.is_vector();
        let rows = if is_vector {
            parameter.cols
        } else {
            parameter.rows
        };
        self.naming.place(config, &parameter.name, rows)
    }

    /// The tensor that `parameter` lies in, whose shape and type are as they should be.
    fn tensor_of(
        &self,
        parameter: &Parameter,
        place: &Place,
    ) -> Result<(&TensorInfo, usize), InteropError> {
        let path = || self.path().to_owned();
        let Some(&number) = self.index.get(&place.tensor) else {
            let name = place.tensor.clone();
            return Err(InteropError::Missing { path: path(), name });
        };
        let info = &self.source.tensors()[number];
        let refused = |problem: String| InteropError::Tensor {
            path: path(),
            name: info.name.clone(),
            problem,
        };
        let mut wanted = vec![place.total_rows];
        if !parameter.is_vector() {
            wanted.push(parameter.cols);
        }
        if place.is_transposed {
            wanted.reverse();
        }
        let has_more = parameter.may_be_longer()
            && info.shape.len() == wanted.len()
            && info.shape[0] >= wanted[0]
            && info.shape[1..] == wanted[1..];
        if info.shape != wanted && !has_more {
            let found = &info.shape;
            return Err(refused(format!(
                "has the shape {found:?} where the model wants {wanted:?}"
            )));
        }
        if let ElementType::Other(kind) = info.element_type {
            return Err(refused(format!(
                "is of {kind}, which is no type of weights"
            )));
        }
        Ok((info, number))
    }

    /// A parameter of a model of `config`, as ours.
    ///
    /// # Errors
    /// When the tensor is missing, of another shape or type, or damaged.
    pub fn read(
        &self,
        config: &ModelConfig,
        parameter: &Parameter,
    ) -> Result<HostTensor, InteropError> {
        let place = self.place(config, parameter);
        let (info, number) = self.tensor_of(parameter, &place)?;
        let bytes = self.source.read(number)?;
        let len = info.shape.iter().product();
        let values = elements::to_f32(info.element_type, &bytes, len);
        let mut values = values.map_err(|problem| InteropError::Tensor {
            path: self.path().to_owned(),
            name: info.name.clone(),
            problem,
        })?;
        let cols = if parameter.is_vector() {
            1
        } else {
            parameter.cols
        };
        if place.is_transposed {
            values = rows::transposed(&values, place.total_rows);
        }
        values.truncate(place.rows.end * cols);
        values.drain(..place.rows.start * cols);
        if let Some(head_dim) = place.half_split {
            values = rows::pairs_of_halves(&values, cols, head_dim);
        }
        Ok(HostTensor::from_f32(&values))
    }
}

impl std::fmt::Debug for ForeignModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} '{}'", self.format, self.path().display())
    }
}
