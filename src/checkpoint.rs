//! Checkpoints: one safetensors file with parameters, moments and what a run needs to go on.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc, Table};
use safetensors::tensor::{Dtype, View};
use serde_json::{Map, Value};

use crate::config::{ConfigError, ModelConfig};
use crate::data::positional::PositionalFile;
use crate::files;
use crate::gpu::GpuError;
use crate::model::parameters::Parameter;
use crate::train::engine::{Engine, Part};
use crate::tuner::Record;

/// An error of a checkpoint file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Missing or unreadable.
    #[error("cannot read checkpoint '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("'{}' is no sound safetensors file: {reason}; take another checkpoint", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A tensor or a piece of metadata is missing.
    #[error("'{}' has no {what}, which {needed_for} needs", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
        /// What it is needed for, and the remedy.
        needed_for: &'static str,
    },
    /// A tensor of another shape or type than the model's.
    #[error("'{}': tensor '{name}' is {found}, but the model wants {wanted}; give the model's own shape", path.display())]
    WrongTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the file has.
        found: String,
        /// What the model wants.
        wanted: String,
    },
    /// The checkpoint is of another model than the config.
    #[error("'{}' was trained with {key} = {found}, but the config says {wanted}; make them agree", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The key that differs.
        key: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value in the config.
        wanted: String,
    },
    /// The checkpoint belongs to another tokenizer.
    #[error(
        "'{}' was trained with tokenizer {found}, but the given one is {given}; use the tokenizer \
         that made its token files, or go on with --ignore-tokenizer-mismatch",
        path.display()
    )]
    OtherTokenizer {
        /// The file.
        path: PathBuf,
        /// Short hash of the checkpoint's tokenizer.
        found: String,
        /// Short hash of the given tokenizer.
        given: String,
    },
    /// The model in the checkpoint is not one that can be built.
    #[error("'{}' holds a model that cannot be built: {source}", path.display())]
    BadModel {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ConfigError,
    },
    /// It cannot be written.
    #[error("cannot write checkpoint '{}': {source}; the one before is whole", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The device failed while tensors were read or written.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl CheckpointError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::OtherModel { .. } | Self::OtherTokenizer { .. })
    }
}

/// What a checkpoint knows besides tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Updates done.
    pub iteration: u64,
    /// The settings of the run, with every key of the model resolved.
    pub config: Map<String, Value>,
    /// Hash of the tokenizer, if one was named.
    pub tokenizer_hash: Option<String>,
    /// Loss of the last iteration, in nats.
    pub train_loss: Option<f64>,
    /// Validation loss of the last evaluation, in nats.
    pub val_loss: Option<f64>,
    /// Lowest validation loss so far, in nats.
    pub best_val_loss: Option<f64>,
    /// Which kernels the run was planned with, if it says so.
    pub tuning: Option<Record>,
}

impl Metadata {
    fn to_map(&self) -> HashMap<String, String> {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        HashMap::from([
            ("iteration".to_owned(), self.iteration.to_string()),
            (
                "config".to_owned(),
                Value::Object(self.config.clone()).to_string(),
            ),
            (
                "tokenizer_hash".to_owned(),
                self.tokenizer_hash.clone().unwrap_or_default(),
            ),
            ("train_loss".to_owned(), number(self.train_loss)),
            ("val_loss".to_owned(), number(self.val_loss)),
            (
                "val_perplexity".to_owned(),
                number(self.val_loss.map(f64::exp)),
            ),
            ("best_val_loss".to_owned(), number(self.best_val_loss)),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            (
                "tuning".to_owned(),
                serde_json::to_string(&self.tuning).unwrap_or_default(),
            ),
        ])
    }

    fn from_map(map: &HashMap<String, String>) -> Option<Self> {
        let number = |key: &str| map.get(key).and_then(|v| v.parse().ok());
        Some(Self {
            iteration: map.get("iteration")?.parse().ok()?,
            config: serde_json::from_str(map.get("config")?).ok()?,
            tokenizer_hash: map
                .get("tokenizer_hash")
                .filter(|hash| !hash.is_empty())
                .cloned(),
            train_loss: number("train_loss"),
            val_loss: number("val_loss"),
            best_val_loss: number("best_val_loss"),
            // A file of an earlier version has none.
            tuning: map
                .get("tuning")
                .and_then(|text| serde_json::from_str(text).ok()),
        })
    }
}

/// CRC-32C (Castagnoli) of a tensor's bytes and of the metadata: finds every flipped bit, and all
/// but one in four billion of other damages.
const CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Key of the metadata that holds the checksum of each tensor.
const TENSOR_CHECKSUMS: &str = "tensor_crc32c";
/// Key of the metadata that holds the checksum of all its other entries.
const METADATA_CHECKSUM: &str = "metadata_crc32c";

/// Bytes before the header: its length.
const HEADER_START: usize = 8;
/// Bytes that a header may have, as the safetensors crate has it.
const MOST_HEADER: u64 = 100_000_000;

/// Checksum of the entries of a file's metadata, its own aside, in the order of their keys.
fn metadata_checksum(map: &HashMap<String, String>) -> u32 {
    let entries: BTreeMap<_, _> = map.iter().collect();
    let mut digest = CRC32C.digest();
    for (key, value) in entries {
        if key != METADATA_CHECKSUM {
            for part in [key, value] {
                digest.update(part.as_bytes());
                digest.update(&[0]);
            }
        }
    }
    digest.finalize()
}

/// A safetensors file that has been opened and whose header is sound.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: PositionalFile,
    /// Names, types, shapes and places of the tensors.
    header: safetensors::tensor::Metadata,
    /// Where the tensors begin, in bytes.
    data_start: u64,
    metadata: Option<Metadata>,
    /// By the tensors' names; empty in a file that another program or an earlier version wrote.
    checksums: BTreeMap<String, u32>,
}

impl Checkpoint {
    /// Opens a checkpoint, or any safetensors file with the parameters' names.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = path.to_owned();
        let unreadable = |source| CheckpointError::Unreadable {
            path: path.clone(),
            source,
        };
        let damaged = |reason: String| CheckpointError::Damaged {
            path: path.clone(),
            reason,
        };
        let file = PositionalFile::open(&path).map_err(unreadable)?;
        let mut prefix = [0; HEADER_START];
        if file.len() < HEADER_START as u64 {
            return Err(damaged(format!("it has {} bytes", file.len())));
        }
        file.read_at(0, &mut prefix).map_err(unreadable)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MOST_HEADER.min(file.len() - HEADER_START as u64) {
            return Err(damaged(format!("its header would have {header_len} bytes")));
        }
        let data_start = HEADER_START as u64 + header_len;
        let mut text = vec![0; usize::try_from(header_len).unwrap_or_default()];
        file.read_at(HEADER_START as u64, &mut text)
            .map_err(unreadable)?;
        let header: safetensors::tensor::Metadata =
            serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let expected = data_start + header.data_len() as u64;
        if file.len() != expected {
            return Err(damaged(format!(
                "it has {} bytes where its header wants {expected}",
                file.len()
            )));
        }
        let map = header.metadata().as_ref();
        if let Some(noted) = map.and_then(|map| map.get(METADATA_CHECKSUM)) {
            let found = map.map_or(0, metadata_checksum).to_string();
            if found != *noted {
                return Err(damaged(format!(
                    "its metadata has the checksum {found}, and not {noted} as when it was written"
                )));
            }
        }
        let checksums = map.and_then(|map| serde_json::from_str(map.get(TENSOR_CHECKSUMS)?).ok());
        Ok(Self {
            metadata: map.and_then(Metadata::from_map),
            checksums: checksums.unwrap_or_default(),
            path,
            file,
            header,
            data_start,
        })
    }

    /// The metadata of one of our own checkpoints.
    ///
    /// # Errors
    /// When there is none, as in a file of bare weights.
    pub fn metadata(&self) -> Result<&Metadata, CheckpointError> {
        self.metadata
            .as_ref()
            .ok_or_else(|| CheckpointError::Missing {
                path: self.path.clone(),
                what: "metadata (iteration and config)".to_owned(),
                needed_for: "going on, evaluating or generating; bare weights go to --init-from",
            })
    }

    /// The shape of the model.
    ///
    /// # Errors
    /// When there is no metadata, or the model in it is none that can be built.
    pub fn model(&self) -> Result<ModelConfig, CheckpointError> {
        let config = Value::Object(self.metadata()?.config.clone());
        let model: ModelConfig =
            serde_json::from_value(config).map_err(|e| CheckpointError::Damaged {
                path: self.path.clone(),
                reason: format!("its config: {e}"),
            })?;
        let bad = |source| CheckpointError::BadModel {
            path: self.path.clone(),
            source,
        };
        model.check().map_err(bad)?;
        Ok(model)
    }

    /// Checks that the checkpoint is of `model`.
    ///
    /// # Errors
    /// When a key of the model differs; the error names it and both values.
    pub fn expect_model(&self, model: &ModelConfig) -> Result<(), CheckpointError> {
        let value = |m: &ModelConfig| serde_json::to_value(m).unwrap_or_default();
        let (found, wanted) = (value(&self.model()?), value(model));
        let differing = found
            .as_object()
            .into_iter()
            .flatten()
            .find(|(key, v)| wanted[*key] != **v);
        match differing {
            None => Ok(()),
            Some((key, v)) => Err(CheckpointError::OtherModel {
                path: self.path.clone(),
                key: key.clone(),
                found: v.to_string(),
                wanted: wanted[key].to_string(),
            }),
        }
    }

    /// Checks that the checkpoint's tokenizer is `hash`, where both are known.
    ///
    /// # Errors
    /// When they differ.
    pub fn expect_tokenizer(&self, hash: Option<&str>) -> Result<(), CheckpointError> {
        let found = self
            .metadata
            .as_ref()
            .and_then(|m| m.tokenizer_hash.as_deref());
        match (found, hash) {
            (Some(found), Some(given)) if found != given => Err(CheckpointError::OtherTokenizer {
                path: self.path.clone(),
                found: found.chars().take(12).collect(),
                given: given.chars().take(12).collect(),
            }),
            _ => Ok(()),
        }
    }

    /// Values of `parameter`, whose key in the file is `prefix` and its name.
    ///
    /// # Errors
    /// When it is missing, of another shape or type, or damaged, as its checksum tells.
    pub fn values(&self, prefix: &str, parameter: &Parameter) -> Result<Vec<f32>, CheckpointError> {
        let name = format!("{prefix}{}", parameter.name);
        let tensor = self
            .header
            .info(&name)
            .ok_or_else(|| CheckpointError::Missing {
                path: self.path.clone(),
                what: format!("tensor '{name}'"),
                needed_for: "the model",
            })?;
        if tensor.dtype != Dtype::F32 || tensor.shape != parameter.shape() {
            return Err(CheckpointError::WrongTensor {
                path: self.path.clone(),
                name,
                found: format!("{:?} {:?}", tensor.dtype, tensor.shape),
                wanted: format!("F32 {:?}", parameter.shape()),
            });
        }
        let (begin, end) = tensor.data_offsets;
        let mut bytes = vec![0; end - begin];
        self.file
            .read_at(self.data_start + begin as u64, &mut bytes)
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => CheckpointError::Damaged {
                    path: self.path.clone(),
                    reason: format!("it became shorter while it was read, before '{name}' ended"),
                },
                _ => CheckpointError::Unreadable {
                    path: self.path.clone(),
                    source,
                },
            })?;
        let found = CRC32C.checksum(&bytes);
        if let Some(noted) = self.checksums.get(&name).filter(|noted| **noted != found) {
            return Err(CheckpointError::Damaged {
                path: self.path.clone(),
                reason: format!(
                    "tensor '{name}' has the checksum {found:08x}, and not {noted:08x} as when it \
                     was written"
                ),
            });
        }
        Ok(bytes
            .chunks_exact(4)
            .map(bytemuck::pod_read_unaligned)
            .collect())
    }

    /// Writes the parameters to the device, and the moments too where `moments` says so.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape; nothing is written then.
    pub fn restore(&self, engine: &Engine, moments: bool) -> Result<(), CheckpointError> {
        let parts = if moments { &PARTS[..] } else { &PARTS[..1] };
        let mut values = Vec::new();
        for (part, prefix) in parts {
            for (index, parameter) in engine.table().iter().enumerate() {
                values.push((*part, index, self.values(prefix, parameter)?));
            }
        }
        for (part, index, values) in &values {
            engine.write(*part, *index, values);
        }
        Ok(())
    }
}

/// What a checkpoint holds of each parameter, and the prefix of its key.
const PARTS: [(Part, &str); 3] = [
    (Part::Parameters, ""),
    (Part::Moment1, "optimizer.moment1."),
    (Part::Moment2, "optimizer.moment2."),
];

/// Writes a checkpoint: to a temporary file that is synced and renamed, so that a crash leaves the
/// one before whole.
///
/// # Errors
/// When the device or the disk fails.
pub fn save(path: &Path, engine: &Engine, metadata: &Metadata) -> Result<(), CheckpointError> {
    let mut tensors = Vec::new();
    for (part, prefix) in PARTS {
        for (index, parameter) in engine.table().iter().enumerate() {
            let tensor = HostTensor {
                shape: parameter.shape(),
                values: engine.read(part, index)?,
            };
            tensors.push((format!("{prefix}{}", parameter.name), tensor));
        }
    }
    let unwritable = |source| CheckpointError::Unwritable {
        path: path.to_owned(),
        source,
    };
    let checksums: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, tensor)| (name, CRC32C.checksum(&tensor.data())))
        .collect();
    let mut map = metadata.to_map();
    map.insert(
        TENSOR_CHECKSUMS.to_owned(),
        serde_json::json!(checksums).to_string(),
    );
    map.insert(
        METADATA_CHECKSUM.to_owned(),
        metadata_checksum(&map).to_string(),
    );
    let bytes = safetensors::serialize(tensors, Some(map))
        .map_err(|e| unwritable(std::io::Error::other(e)))?;
    files::write(path, &bytes).map_err(unwritable)
}

struct HostTensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl View for HostTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(&self.values))
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}
