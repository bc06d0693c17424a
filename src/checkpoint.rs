//! Checkpoints: one safetensors file with parameters, moments and what a run needs to go on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{ConfigError, ModelConfig};
use crate::kernels::loss_scale::LossScale;
use crate::tuner::Record;
use crate::weights::{
    self, EngineState, HostTensor, Parameter, ParameterTable, Role, WeightsError, WeightsFile,
};

/// An error of a checkpoint file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or a tensor in it cannot be read, or is not the model's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of bare weights, where a run's checkpoint is needed.
    #[error(
        "'{}' has no metadata (iteration and config), which going on, evaluating and generating need; \
         bare weights can start a new run (init_from)",
        path.display()
    )]
    NoRun {
        /// The file.
        path: PathBuf,
    },
    /// The settings in the metadata are damaged.
    #[error("'{}' has a damaged config: {reason}; take another checkpoint", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
         that made its token files, or have the difference ignored",
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

/// A file of weights, and what a run has noted in it.
#[derive(Debug)]
pub struct Checkpoint {
    weights: WeightsFile,
    metadata: Option<Metadata>,
}

impl Checkpoint {
    /// Opens a checkpoint, or any safetensors file with the parameters' names.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let weights = WeightsFile::open(path)?;
        Ok(Self {
            metadata: weights.metadata().and_then(Metadata::from_map),
            weights,
        })
    }

    /// Its tensors.
    pub fn weights(&self) -> &WeightsFile {
        &self.weights
    }

    fn path(&self) -> PathBuf {
        self.weights.path().to_owned()
    }

    /// The metadata of one of our own checkpoints.
    ///
    /// # Errors
    /// When there is none, as in a file of bare weights.
    pub fn metadata(&self) -> Result<&Metadata, CheckpointError> {
        self.metadata
            .as_ref()
            .ok_or_else(|| CheckpointError::NoRun { path: self.path() })
    }

    /// The shape of the model.
    ///
    /// # Errors
    /// When there is no metadata, or the model in it is none that can be built.
    pub fn model(&self) -> Result<ModelConfig, CheckpointError> {
        let config = Value::Object(self.metadata()?.config.clone());
        let model: ModelConfig =
            serde_json::from_value(config).map_err(|e| CheckpointError::Config {
                path: self.path(),
                reason: e.to_string(),
            })?;
        let bad = |source| CheckpointError::BadModel {
            path: self.path(),
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
                path: self.path(),
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
                path: self.path(),
                found: found.chars().take(12).collect(),
                given: given.chars().take(12).collect(),
            }),
            _ => Ok(()),
        }
    }

    fn loss_scale(&self) -> Option<LossScale> {
        let text = self.weights.metadata()?.get(LOSS_SCALE)?;
        serde_json::from_str(text).ok()
    }

    /// What an engine of `table` starts from: the parameters, and the moments too where `moments` says
    /// so.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or damaged.
    pub fn state(
        &self,
        table: &ParameterTable,
        moments: bool,
    ) -> Result<EngineState, CheckpointError> {
        let read = |prefix: &str, trained_only: bool| -> Result<Vec<_>, WeightsError> {
            let wanted = |p: &&Parameter| !trained_only || p.role == Role::Trainable;
            let parameters = table.iter().filter(wanted);
            parameters.map(|p| self.weights.read(prefix, p)).collect()
        };
        Ok(EngineState {
            parameters: read("", false)?,
            moments: match moments {
                true => Some([read(MOMENT1, true)?, read(MOMENT2, true)?]),
                false => None,
            },
            loss_scale: moments.then(|| self.loss_scale()).flatten(),
        })
    }
}

/// Key of the loss scale's state in a file's metadata.
const LOSS_SCALE: &str = "loss_scale";
/// Prefixes of the moments' names in a file.
const MOMENT1: &str = "optimizer.moment1.";
const MOMENT2: &str = "optimizer.moment2.";

/// Writes a checkpoint of `state`, whose parameters `table` names: to a temporary file that is synced
/// and renamed, so that a crash leaves the one before whole.
///
/// # Errors
/// When the disk fails.
pub fn save(
    path: &Path,
    table: &ParameterTable,
    state: &EngineState,
    metadata: &Metadata,
) -> Result<(), CheckpointError> {
    let named = |prefix: &'static str, tensors, trained_only: bool| {
        let wanted = move |p: &&Parameter| !trained_only || p.role == Role::Trainable;
        let parameters = table.iter().filter(wanted).zip(tensors);
        parameters.map(move |(p, tensor)| (format!("{prefix}{}", p.name), p.shape(), tensor))
    };
    let [moment1, moment2]: [&[HostTensor]; 2] = match &state.moments {
        Some([first, second]) => [first, second],
        None => [&[], &[]],
    };
    let tensors = named("", &state.parameters[..], false)
        .chain(named(MOMENT1, moment1, true))
        .chain(named(MOMENT2, moment2, true));
    let mut map = metadata.to_map();
    if let Some(text) = state
        .loss_scale
        .and_then(|s| serde_json::to_string(&s).ok())
    {
        map.insert(LOSS_SCALE.to_owned(), text);
    }
    weights::write(path, tensors, map).map_err(|source| CheckpointError::Unwritable {
        path: path.to_owned(),
        source,
    })
}
