//! Configuration: a JSON file and flags become one checked set of values, each with its source.

mod architecture;
mod settings;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::weights::StorageType;

pub use architecture::{Activation, Architecture, Norm, Positions, RopeScaling};
pub use settings::{KEYS, Precision, Sampling, Schedule, SettingFlags, Settings};

/// An error in a config file or flag.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file cannot be read.
    #[error("cannot read config '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The config file is no JSON object.
    #[error("config '{}' is not a JSON object: {reason}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key '{key}' in config '{}'{}", path.display(), suggest(.nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("key '{key}' has the value {found}: {reason}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The value as JSON.
        found: String,
        /// What was expected.
        reason: String,
    },
    /// A value that is out of range or does not go with another.
    #[error("key '{key}' is {found}, but {rule}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// The rule that it breaks, and the remedy.
        rule: String,
    },
    /// A shape that is sound but that the kernels do not support.
    #[error("unsupported: {0}")]
    Unsupported(String),
}

fn suggest(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(key) => format!("; did you mean '{key}'?"),
        None => String::new(),
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence.
    pub context_length: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of the feed-forward layer.
    pub d_ff: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f64,
    /// Whether the head uses the embedding's matrix.
    pub tie_embeddings: bool,
    /// What products and attention compute with; checkpoints of earlier versions say nothing, and are f32.
    #[serde(default)]
    pub precision: Precision,
    /// What differs from Llama; checkpoints of earlier versions say nothing, and nothing does.
    #[serde(flatten)]
    pub architecture: Architecture,
}

impl ModelConfig {
    /// The keys of its shape with their values: all but the precision, which is how it is computed.
    pub fn shape_keys(&self) -> Map<String, Value> {
        let mut keys = match serde_json::to_value(self) {
            Ok(Value::Object(keys)) => keys,
            _ => Map::new(),
        };
        keys.remove("precision");
        keys
    }

    /// Whether a setting is part of a model's shape.
    pub fn is_of_shape(key: &str) -> bool {
        static SHAPE: LazyLock<Map<String, Value>> = LazyLock::new(|| {
            let settings = Settings {
                vocab_size: Some(1),
                ..Settings::default()
            };
            let model = settings.model(None);
            model.map_or(Map::new(), |model| model.shape_keys())
        });
        // A width of heads is left out where it follows from others.
        SHAPE.contains_key(key) || key == "head_dim"
    }

    /// The same without a width of heads that follows from others.
    pub fn normalised(mut self) -> Self {
        let follows = |own: &usize| own.checked_mul(self.num_heads) == Some(self.d_model);
        self.architecture.head_dim = self.architecture.head_dim.filter(|own| !follows(own));
        self
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        let own = self.architecture.head_dim;
        own.unwrap_or(self.d_model / self.num_heads)
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Order of the windows.
    pub sampling: Sampling,
    /// Seed of initial weights and batches.
    pub seed: u64,
    /// Sequences of a step.
    pub batch_size: usize,
    /// Sequences of a pass.
    pub micro_batch_size: usize,
    /// Steps in all.
    pub max_iters: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Final learning rate.
    pub min_learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_iters: u64,
    /// Step at which the decay ends.
    pub cosine_cycle_iters: u64,
    /// Shape of the schedule.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Patterns of parameter names without decay.
    pub no_decay: Vec<String>,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest gradient norm; 0 does not clip.
    pub grad_clip: f64,
    /// Whether blocks run forward once more in the backward pass, to keep less.
    pub activation_checkpointing: bool,
    /// Whether documents that share a row do not see each other.
    pub document_mask: bool,
    /// Patterns of names of parameters that stay as they are.
    pub freeze: Vec<String>,
    /// How matrices that stay as they are are held on the device.
    pub frozen_type: StorageType,
    /// Adapters that are trained in place of the model's own parameters.
    pub lora: Option<LoraConfig>,
}

/// Low-rank adapters `y += alpha / rank * (x A^T) B^T` beside linear layers (Hu et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What an adapter adds is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Patterns of names of the layers that get one.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// `alpha / rank`.
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }
}

/// Settings with the source of each.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The values.
    pub settings: Settings,
    sources: BTreeMap<&'static str, String>,
}

/// Key under which a written config keeps the sources; read back, it is skipped.
const SOURCES: &str = "sources";
/// The source of a value on the command line.
const FLAG: &str = "flag";

impl Resolved {
    /// Reads the config file, if any, and lays the flags over it.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or value is wrong.
    pub fn load(file: Option<&Path>, flags: &SettingFlags) -> Result<Self, ConfigError> {
        let mut values = Map::new();
        let mut sources = BTreeMap::new();
        if let Some(path) = file {
            for (key, value) in read_object(path)? {
                // A null is the same as leaving the key out.
                let is_known = KEYS.contains(&key.as_str());
                if key == SOURCES || is_known && value.is_null() {
                    continue;
                }
                let known = KEYS.iter().copied().find(|&known| known == key);
                let Some(known) = known else {
                    let nearest = nearest_key(&key);
                    return Err(ConfigError::UnknownKey {
                        path: path.to_owned(),
                        key,
                        nearest,
                    });
                };
                sources.insert(known, format!("file {}", path.display()));
                values.insert(key, value);
            }
        }
        for (key, value) in flags.given() {
            // JSON has no NaN and no infinity: such a flag arrives as null.
            if value.is_null() {
                let (found, rule) = (
                    "not finite".to_owned(),
                    "it must be a finite number".to_owned(),
                );
                return Err(ConfigError::Invalid { key, found, rule });
            }
            sources.insert(key, FLAG.to_owned());
            values.insert(key.to_owned(), value);
        }
        let mut settings = Settings::from_values(&values)?;
        let is_flag = |key| sources.get(key).is_some_and(|source| source == FLAG);
        if is_flag("load_checkpoint") && !is_flag("init_from") && settings.lora_rank == 0 {
            // The file says what the run began from, and the checkpoint has what became of that.
            settings.init_from = None;
            sources.remove("init_from");
        }
        Ok(Self { settings, sources })
    }

    /// Settings that a program has made.
    pub fn of(settings: Settings) -> Self {
        let defaults = Settings::default().to_values();
        let values = settings.to_values();
        let given = KEYS
            .iter()
            .filter(|key| values.get(**key) != defaults.get(**key));
        Self {
            sources: given.map(|key| (*key, "program".to_owned())).collect(),
            settings,
        }
    }

    /// Gives those of `values` whose keys are settings, and that nobody gave, their values.
    ///
    /// # Errors
    /// When a value is of another type than the key's.
    pub fn fill(&mut self, values: &Map<String, Value>, source: &str) -> Result<(), ConfigError> {
        let mut all = self.settings.to_values();
        for (key, value) in values {
            let known = KEYS.iter().copied().find(|known| known == key);
            if let Some(known) = known.filter(|known| !self.sources.contains_key(known)) {
                all.insert(key.clone(), value.clone());
                self.note_source(known, source);
            }
        }
        all.retain(|_, value| !value.is_null());
        self.settings = Settings::from_values(&all)?;
        Ok(())
    }

    /// The keys of a model's shape that somebody gave, with their values.
    pub fn given_of_model(&self) -> Map<String, Value> {
        let is_given = |key: &str| {
            let source = self.sources.get(key);
            source.is_some() && ModelConfig::is_of_shape(key)
        };
        let mut values = self.settings.to_values();
        values.retain(|key, value| is_given(key) && !value.is_null());
        values
    }

    /// Gives a key a value that was found out later, such as the vocabulary's size.
    pub fn note_source(&mut self, key: &'static str, source: &str) {
        self.sources.insert(key, source.to_owned());
    }

    /// The values as a JSON object, with the source of each under `sources`: a config file that
    /// repeats the run.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = self.settings.to_values();
        let source = |key: &&'static str| self.sources.get(key).map_or("default", String::as_str);
        let sources = KEYS
            .iter()
            .map(|key| ((*key).to_owned(), source(key).into()))
            .collect();
        object.insert(SOURCES.to_owned(), Value::Object(sources));
        object
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|e| ConfigError::NotJson {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn nearest_key(key: &str) -> Option<&'static str> {
    let similarity = |known: &&'static str| strsim::jaro_winkler(known, key);
    let best = KEYS
        .iter()
        .copied()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) > 0.75).then_some(best)
}
