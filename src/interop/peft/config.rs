//! `adapter_config.json`: what a folder of PEFT says of its adapters. The keys are those of `peft.LoraConfig`.

use std::path::Path;

use serde_json::{Map, Value};

use super::CONFIG_FILE;
use crate::interop::{InteropError, read_text};

/// What is read of the config.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub(super) struct AdapterConfig {
    peft_type: String,
    #[serde(default)]
    pub(super) base_model_name_or_path: Option<String>,
    r: u64,
    lora_alpha: f64,
    /// In the order of the file, since the first that matches counts.
    #[serde(default)]
    alpha_pattern: Map<String, Value>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Keys that change what an adapter computes, with the values that change nothing beside null.
const PLAIN: &[(&str, &[Value])] = &[
    ("use_dora", &[Value::Bool(false)]),
    ("lora_bias", &[Value::Bool(false)]),
    ("use_qalora", &[Value::Bool(false)]),
    ("fan_in_fan_out", &[Value::Bool(false), Value::Bool(true)]),
    ("modules_to_save", &[]),
    ("trainable_token_indices", &[]),
    ("target_parameters", &[]),
    ("layer_replication", &[]),
    ("megatron_config", &[]),
    ("arrow_config", &[]),
];

impl AdapterConfig {
    /// Reads the config in `folder`.
    ///
    /// # Errors
    /// When it cannot be read, or says something of adapters that is not supported.
    pub(super) fn read(folder: &Path) -> Result<Self, InteropError> {
        let path = folder.join(CONFIG_FILE);
        let text = read_text(&path)?;
        let config: Self = serde_json::from_str(&text).map_err(|e| InteropError::Damaged {
            path: path.clone(),
            format: "adapter_config.json",
            problem: e.to_string(),
        })?;
        let unsupported = |what: String| InteropError::Unsupported {
            path: path.clone(),
            what,
        };
        if config.peft_type != "LORA" {
            let what = format!("peft_type {:?}, which is not \"LORA\",", config.peft_type);
            return Err(unsupported(what));
        }
        for (key, plain) in PLAIN {
            let found = config.others.get(*key).unwrap_or(&Value::Null);
            let is_empty = found.is_null() || found.as_array().is_some_and(Vec::is_empty);
            if !is_empty && !plain.contains(found) {
                return Err(unsupported(format!("{key} = {found}")));
            }
        }
        for (key, alpha) in &config.alpha_pattern {
            if !alpha.is_number() {
                return Err(unsupported(format!("alpha_pattern {key:?} = {alpha}")));
            }
            if plain(key).contains([
                '*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '\\', '^', '$',
            ]) {
                let what = format!(
                    "alpha_pattern {key:?}, a regular expression, and not the name of a module,"
                );
                return Err(unsupported(what));
            }
        }
        let bias = config.others.get("bias");
        if let Some(bias) = bias.filter(|bias| !bias.is_null() && *bias != "none") {
            return Err(unsupported(format!("bias = {bias}")));
        }
        Ok(config)
    }

    /// Alpha of an adapter of `rank` beside `module`, which is scaled by `alpha / rank`. With `use_rslora` the folder
    /// means alpha over the root of the rank.
    pub(super) fn alpha(&self, module: &str, rank: usize) -> f64 {
        let mut own = self.alpha_pattern.iter();
        let own = own.find(|(key, _)| is_end_of(module, key));
        let own = own.and_then(|(_, alpha)| alpha.as_f64());
        let alpha = own.unwrap_or(self.lora_alpha);
        match self.use_rslora {
            true => alpha * (rank as f64).sqrt(),
            false => alpha,
        }
    }

    /// The rank of all adapters that have none of their own.
    pub(super) fn rank(&self) -> u64 {
        self.r
    }
}

/// Whether `key` is a module's name or its last parts. PEFT takes keys for regular expressions; those that name
/// modules alone mean the same here.
fn is_end_of(module: &str, key: &str) -> bool {
    let key = plain(key);
    module == key || module.ends_with(&format!(".{key}"))
}

/// A key without what makes a name a regular expression for it.
fn plain(key: &str) -> String {
    let key = key.trim_start_matches('^').trim_end_matches('$');
    key.replace("\\.", ".")
}
