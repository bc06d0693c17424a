//! The keys: one list from which the settings, the flags and the names are made.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::ConfigError;
use super::architecture::{Activation, Norm, Positions, RopeScaling};
use crate::weights::StorageType;

/// Order in which training reads windows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Uniform starts, a function of seed and iteration.
    Random,
    /// Every window once an epoch, in an order that changes with the epoch.
    Shuffle,
    /// One window after the other.
    Sequential,
}

/// What products and attention compute with.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Operands in f16, sums in f32; weights, moments, norms, softmax and loss stay f32 (Micikevicius
    /// et al. 2018).
    Mixed,
}

impl Precision {
    /// As in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Mixed => "mixed",
        }
    }
}

/// Shape of the learning rate over a run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Linear warm-up, cosine decay, then constant.
    Cosine,
    /// Linear warm-up, then constant.
    Constant,
    /// Linear warm-up, stable, linear decay over the last fifth.
    Wsd,
}

/// Makes [`Settings`], [`SettingFlags`] and [`KEYS`] from one list. `required` keys have a
/// default; `optional` ones are left out or follow from others.
macro_rules! settings {
    (
        required { $($(#[doc = $doc:literal])+ $(@arg($($arg:tt)*))? $name:ident: $ty:ty = $default:expr,)* }
        optional { $($(#[doc = $odoc:literal])+ $oname:ident: $oty:ty,)* }
    ) => {
        /// Every key's value, before they are checked against each other.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $ty,)*
            $($(#[doc = $odoc])+ pub $oname: Option<$oty>,)*
        }

        /// Every key as a flag; flags win over the config file.
        #[derive(Clone, Debug, Default, clap::Args)]
        #[command(next_help_heading = "Settings (also keys of the config file, with underscores)")]
        pub struct SettingFlags {
            $($(#[doc = $doc])+ #[arg(long $(, $($arg)*)?)] pub $name: Option<$ty>,)*
            $($(#[doc = $odoc])+ #[arg(long)] pub $oname: Option<$oty>,)*
        }

        /// The keys of a config file.
        pub const KEYS: &[&str] = &[$(stringify!($name),)* $(stringify!($oname),)*];

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* $($oname: None,)* }
            }
        }

        impl Settings {
            /// Whether a key takes a value.
            pub fn takes(key: &str, value: &Value) -> bool {
                let one = Map::from_iter([(key.to_owned(), value.clone())]);
                KEYS.contains(&key) && Self::from_values(&one).is_ok()
            }

            pub(super) fn from_values(values: &Map<String, Value>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($name: read(values, stringify!($name))?.unwrap_or_else(|| $default),)*
                    $($oname: read(values, stringify!($oname))?,)*
                })
            }

            pub(super) fn to_values(&self) -> Map<String, Value> {
                let mut map = Map::new();
                $(map.insert(stringify!($name).to_owned(), json(&self.$name));)*
                $(map.insert(stringify!($oname).to_owned(), json(&self.$oname));)*
                map
            }
        }

        impl SettingFlags {
            pub(super) fn given(&self) -> Vec<(&'static str, Value)> {
                let mut given = Vec::new();
                $(if let Some(value) = &self.$name { given.push((stringify!($name), json(value))); })*
                $(if let Some(value) = &self.$oname { given.push((stringify!($oname), json(value))); })*
                given
            }
        }
    };
}

settings! {
    required {
        /// Longest sequence the model sees, in tokens.
        context_length: usize = 128,
        /// Width of the residual stream.
        d_model: usize = 128,
        /// Number of blocks.
        num_layers: usize = 4,
        /// Number of query heads, of an even width up to 128.
        num_heads: usize = 4,
        /// Base of the rotary angles.
        rope_theta: f64 = 10_000.0,
        /// Added to the mean square, or the variance, by norms.
        norm_eps: f64 = 1e-5,
        /// Use the embedding's matrix for the head too.
        @arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")
        tie_embeddings: bool = false,
        /// How rows are normalised: by their root mean square, or to mean 0 and variance 1 with a bias.
        norm: Norm = Norm::Rms,
        /// What the feed-forward layer does: a gate with SiLU, or GELU without a gate.
        activation: Activation = Activation::Swiglu,
        /// How positions are known: queries and keys are turned, or each position has a vector.
        positions: Positions = Positions::Rope,
        /// Give linear layers but the head biases, as GPT-2 has them.
        @arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")
        biases: bool = false,
        /// Normalise each head of queries and keys, as Qwen3 does.
        @arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")
        qk_norm: bool = false,
        /// How rotary angles are changed for contexts longer than a model was first trained with.
        rope_scaling: RopeScaling = RopeScaling::None,
        /// What rope_scaling divides angles by.
        rope_factor: f64 = 1.0,
        /// llama3 scaling: turns in the original context below which an angle is slow.
        rope_low_freq_factor: f64 = 1.0,
        /// llama3 scaling: turns in the original context above which an angle is fast.
        rope_high_freq_factor: f64 = 4.0,
        /// llama3 scaling: tokens of the original context.
        rope_original_context: usize = 8192,
        /// What products and attention compute with: f32, or operands in f16 and sums in f32 (mixed), for
        /// half of the memory of activations and, where the adapter has matrix units, several times the speed.
        precision: Precision = Precision::F32,
        /// Order of the training windows.
        sampling: Sampling = Sampling::Random,
        /// Keep documents that share a row from seeing each other, as if each had a row of its own. Rows of
        /// instruction data (.jsonl) then hold as many examples as fit, and one each otherwise.
        @arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")
        document_mask: bool = false,
        /// Seed of initial weights, batches and the built-in corpus.
        seed: u64 = 0,
        /// Sequences of a step.
        batch_size: usize = 8,
        /// Keep only each block's input for the backward pass, and run the block forward once more
        /// there: less memory for more time.
        @arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")
        activation_checkpointing: bool = false,
        /// Steps in all.
        max_iters: u64 = 1000,
        /// Peak learning rate.
        learning_rate: f64 = 1e-3,
        /// Shape of the learning rate over the run.
        schedule: Schedule = Schedule::Cosine,
        /// Decoupled weight decay of AdamW.
        weight_decay: f64 = 0.1,
        /// Parts of parameter names that do not decay, `*` for anything, separated by commas.
        @arg(value_delimiter = ',', value_name = "PATTERN")
        no_decay: Vec<String> = Vec::new(),
        /// Parts of names of parameters that stay as they are, `*` for anything, separated by commas.
        @arg(value_delimiter = ',', value_name = "PATTERN")
        freeze: Vec<String> = Vec::new(),
        /// How matrices that stay as they are are held on the device: f32, f16 for half of the memory, or q8_0
        /// for little more than a quarter.
        frozen_type: StorageType = StorageType::F32,
        /// Rank of low-rank adapters (LoRA), which are trained in place of the model of init_from; 0 has none.
        lora_rank: usize = 0,
        /// Parts of names of the linear layers that get adapters, `*` for anything, separated by commas.
        @arg(value_delimiter = ',', value_name = "PATTERN")
        lora_targets: Vec<String> = vec!["q_proj".to_owned(), "v_proj".to_owned()],
        /// Dropout in front of adapters; only 0 is supported.
        lora_dropout: f64 = 0.0,
        /// Decay of AdamW's first moment.
        beta1: f64 = 0.9,
        /// Decay of AdamW's second moment.
        beta2: f64 = 0.95,
        /// Added to the root of AdamW's second moment.
        eps: f64 = 1e-8,
        /// Largest gradient norm; 0 does not clip.
        grad_clip: f64 = 1.0,
        /// Steps between evaluations; 0 evaluates never.
        eval_interval: u64 = 100,
        /// Batches of an evaluation, from the start of the validation set; 0 takes all.
        eval_iters: u64 = 20,
        /// Steps between lines of metrics.jsonl and of the log; 0 writes none.
        log_interval: u64 = 1,
        /// Steps between checkpoints; 0 writes only the last.
        checkpoint_interval: u64 = 500,
        /// Numbered checkpoints to keep; 0 keeps all.
        keep_checkpoints: u64 = 3,
    }
    optional {
        /// Entries of the vocabulary; by default the tokenizer's.
        vocab_size: usize,
        /// Key and value heads, shared by groups of query heads; by default num_heads.
        num_kv_heads: usize,
        /// Elements of a head; by default d_model / num_heads.
        head_dim: usize,
        /// Width of the feed-forward layer; by default 8/3 of d_model, rounded up to a multiple of
        /// 8, or four times d_model without a gate.
        d_ff: usize,
        /// Token file to train on, or instruction data (.jsonl, see docs/fine-tuning.md); by default the built-in
        /// corpus.
        train_path: PathBuf,
        /// Token file or instruction data to evaluate on; none evaluates never.
        val_path: PathBuf,
        /// Folder of the tokenizer that made the token files.
        tokenizer: PathBuf,
        /// Sequences of one pass; gradients add up to batch_size. By default batch_size.
        micro_batch_size: usize,
        /// What an adapter adds is scaled by lora_alpha / lora_rank; by default lora_rank.
        lora_alpha: f64,
        /// Learning rate at the end of the schedule; by default a tenth of the peak.
        min_learning_rate: f64,
        /// Steps of linear warm-up; by default a twentieth of max_iters.
        warmup_iters: u64,
        /// Step at which the schedule's decay ends; by default max_iters.
        cosine_cycle_iters: u64,
        /// Folder of the run's files; by default runs/latest.
        logdir: PathBuf,
        /// Checkpoint to go on from: weights, moments and iteration.
        load_checkpoint: PathBuf,
        /// Model to take initial weights from, and the keys of its shape that are not given: a checkpoint, or
        /// a file or folder of another program (docs/interop.md).
        init_from: PathBuf,
        /// Adapter by its index in `gpu-tlm devices` or a part of its name.
        adapter: String,
        /// Graphics API: vulkan, metal, dx12 or gl.
        backend: String,
    }
}

fn read<T: serde::de::DeserializeOwned>(
    values: &Map<String, Value>,
    key: &'static str,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = values.get(key) else {
        return Ok(None);
    };
    serde_json::from_value(value.clone())
        .map(Some)
        .map_err(|e| ConfigError::WrongType {
            key,
            found: value.to_string(),
            reason: e.to_string(),
        })
}

/// A setting as JSON; settings are numbers, strings and lists of them, which always serialize.
fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
