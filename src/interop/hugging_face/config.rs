//! `config.json` of `transformers`, to a model's shape: Llama, Mistral, SmolLM2, Qwen3 and GPT-2. What would change
//! what a model computes and is not known is refused by name.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::InteropError;
use super::super::names::Naming;
use crate::config::{
    Activation, Architecture, ModelConfig, Norm, Positions, Precision, RopeScaling,
};

/// A `config.json` that is read.
pub(super) struct HuggingFaceConfig {
    pub(super) model: ModelConfig,
    pub(super) naming: Naming,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<HuggingFaceConfig, InteropError> {
    let text = super::super::read_text(path)?;
    let damaged = |problem: String| InteropError::Damaged {
        path: path.to_owned(),
        format: "config.json",
        problem,
    };
    let keys: Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    let keys = Keys { path, keys: &keys };
    let family: String = keys.required("model_type")?;
    let model = match family.as_str() {
        "llama" | "mistral" | "qwen3" => llama(&keys, &family)?,
        "gpt2" => gpt2(&keys)?,
        _ => return Err(keys.unsupported(format!("a model_type of \"{family}\""))),
    };
    let model = model.normalised();
    model
        .check_but_for_context()
        .map_err(|source| InteropError::BadModel {
            path: path.to_owned(),
            source,
        })?;
    let naming = match family.as_str() {
        "gpt2" => Naming::Gpt2,
        _ => Naming::Llama,
    };
    Ok(HuggingFaceConfig { model, naming })
}

/// The keys of a file, or of an object in it.
struct Keys<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn unsupported(&self, what: String) -> InteropError {
        InteropError::Unsupported {
            path: self.path.to_owned(),
            what,
        }
    }

    /// The value of `key`; null is the same as nothing.
    fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, InteropError> {
        let Some(value) = self.keys.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let read = serde_json::from_value(value.clone());
        read.map(Some).map_err(|e| InteropError::Damaged {
            path: self.path.to_owned(),
            format: "config.json",
            problem: format!("key '{key}' is {value}: {e}"),
        })
    }

    fn required<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, InteropError> {
        self.get(key)?.ok_or_else(|| InteropError::Damaged {
            path: self.path.to_owned(),
            format: "config.json",
            problem: format!("it has no key '{key}'"),
        })
    }

    fn object(&self, key: &str) -> Option<Keys<'a>> {
        let keys = self.keys.get(key)?.as_object()?;
        Some(Keys {
            path: self.path,
            keys,
        })
    }

    /// Refuses a value of `key` that is there and none of `known`.
    fn expect(&self, key: &str, known: &[Value]) -> Result<(), InteropError> {
        match self.keys.get(key) {
            Some(value) if !value.is_null() && !known.contains(value) => {
                Err(self.unsupported(format!("{key} {value}")))
            }
            _ => Ok(()),
        }
    }
}

fn llama(keys: &Keys<'_>, family: &str) -> Result<ModelConfig, InteropError> {
    keys.expect("hidden_act", &["silu".into(), "swish".into()])?;
    // Of both or of none; a model with half of them is of another kind.
    let has_biases = |key: &str| keys.get(key).map(|value| value.unwrap_or(false));
    let biases = has_biases("attention_bias")?;
    if biases != has_biases("mlp_bias")? {
        let one = if biases { "attention_bias" } else { "mlp_bias" };
        return Err(keys.unsupported(format!("{one} alone")));
    }
    let context_length = keys.required("max_position_embeddings")?;
    check_windows(keys, family, context_length)?;
    let (num_heads, d_model) = (
        keys.required("num_attention_heads")?,
        keys.required("hidden_size")?,
    );
    let head_dim = match keys.get("head_dim")? {
        None if family == "qwen3" => Some(128),
        own => own,
    };
    let mut architecture = Architecture {
        head_dim,
        biases,
        qk_norm: family == "qwen3",
        ..Architecture::default()
    };
    let rope_theta = read_rope(keys, &mut architecture)?;
    Ok(ModelConfig {
        vocab_size: keys.required("vocab_size")?,
        context_length,
        d_model,
        num_layers: keys.required("num_hidden_layers")?,
        num_heads,
        num_kv_heads: match keys.get("num_key_value_heads")? {
            None if keys.keys.contains_key("num_key_value_heads") => num_heads,
            None if family == "mistral" => 8,
            None if family == "qwen3" => 32,
            own => own.unwrap_or(num_heads),
        },
        d_ff: keys.required("intermediate_size")?,
        rope_theta,
        norm_eps: keys.get("rms_norm_eps")?.unwrap_or(1e-6),
        tie_embeddings: keys.get("tie_word_embeddings")?.unwrap_or(false),
        precision: Precision::F32,
        architecture,
    })
}

/// Refuses attention that sees less than all tokens before.
fn check_windows(keys: &Keys<'_>, family: &str, context: usize) -> Result<(), InteropError> {
    let window: Option<usize> = match keys.keys.contains_key("sliding_window") {
        // Nothing and null are two things here.
        false if family == "mistral" => Some(4096),
        _ => keys.get("sliding_window")?,
    };
    // Qwen's configs note a window and whether it is used.
    let is_used = family != "qwen3" || keys.get("use_sliding_window")?.unwrap_or(false);
    if let Some(window) = window.filter(|window| is_used && *window < context) {
        return Err(keys.unsupported(format!("a sliding_window of {window}")));
    }
    let layer_types: Vec<String> = keys.get("layer_types")?.unwrap_or_default();
    match layer_types.iter().find(|kind| *kind != "full_attention") {
        Some(kind) => Err(keys.unsupported(format!("a layer of type \"{kind}\""))),
        None => Ok(()),
    }
}

/// Reads what there is about rotary embeddings to `architecture`, in the newer spelling (`rope_parameters`) or the
/// older one, which `transformers` takes where there are both; gives the base.
fn read_rope(keys: &Keys<'_>, architecture: &mut Architecture) -> Result<f64, InteropError> {
    let older = keys.object("rope_scaling");
    let scaling = older.or_else(|| keys.object("rope_parameters"));
    let theta: Option<f64> = keys.get("rope_theta")?;
    let Some(scaling) = scaling else {
        keys.expect("partial_rotary_factor", &[1.0.into(), 1.into()])?;
        return Ok(theta.unwrap_or(10_000.0));
    };
    for keys in [keys, &scaling] {
        keys.expect("partial_rotary_factor", &[1.0.into(), 1.into()])?;
    }
    let kind: Option<String> = match scaling.get("rope_type")? {
        None => scaling.get("type")?,
        own => own,
    };
    let a = architecture;
    match kind.as_deref() {
        None | Some("default") => {}
        Some("linear") => {
            a.rope_scaling = RopeScaling::Linear;
            a.rope_factor = scaling.required("factor")?;
        }
        Some("llama3") => {
            a.rope_scaling = RopeScaling::Llama3;
            a.rope_factor = scaling.required("factor")?;
            a.rope_low_freq_factor = scaling.required("low_freq_factor")?;
            a.rope_high_freq_factor = scaling.required("high_freq_factor")?;
            a.rope_original_context = match scaling.get("original_max_position_embeddings")? {
                None => keys.required("max_position_embeddings")?,
                Some(own) => own,
            };
        }
        Some(kind) => return Err(keys.unsupported(format!("a rope_type of \"{kind}\""))),
    }
    let own: Option<f64> = scaling.get("rope_theta")?;
    Ok(own.or(theta).unwrap_or(10_000.0))
}

fn gpt2(keys: &Keys<'_>) -> Result<ModelConfig, InteropError> {
    let known = ["gelu_new".into(), "gelu_pytorch_tanh".into()];
    keys.expect("activation_function", &known)?;
    keys.expect("scale_attn_weights", &[true.into()])?;
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        keys.expect(key, &[false.into()])?;
    }
    let (d_model, num_heads) = (keys.required("n_embd")?, keys.required("n_head")?);
    Ok(ModelConfig {
        vocab_size: keys.required("vocab_size")?,
        context_length: keys.required("n_positions")?,
        d_model,
        num_layers: keys.required("n_layer")?,
        num_heads,
        num_kv_heads: num_heads,
        d_ff: match keys.get("n_inner")? {
            None => usize::saturating_mul(4, d_model),
            Some(own) => own,
        },
        rope_theta: 10_000.0,
        norm_eps: keys.get("layer_norm_epsilon")?.unwrap_or(1e-5),
        tie_embeddings: keys.get("tie_word_embeddings")?.unwrap_or(true),
        precision: Precision::F32,
        architecture: gpt2_architecture(),
    })
}

/// What GPT-2 has where Llama has something else.
pub(in super::super) fn gpt2_architecture() -> Architecture {
    Architecture {
        norm: Norm::Layer,
        activation: Activation::Gelu,
        positions: Positions::Learned,
        biases: true,
        ..Architecture::default()
    }
}
