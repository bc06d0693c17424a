//! Writes a folder that `AutoModelForCausalLM` loads.

use std::path::Path;

use serde_json::{Value, json};

use super::super::family::Family;
use super::super::{InteropError, TensorInfo};
use super::{CONFIG, INDEX, WEIGHTS};
use crate::config::{ModelConfig, RopeScaling};
use crate::data::tokenizer::TokenRoles;
use crate::files;
use crate::interop::elements::StoredType;
use crate::interop::safetensors;

const FORMAT: &str = "a Hugging Face folder";

/// What a folder says of a model.
pub(crate) struct Model<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) roles: &'a TokenRoles,
    /// How its tensors are stored.
    pub(crate) stored: StoredType,
}

/// Writes the configs and weights of `model` into the folder at `path`, which is made if needed.
///
/// # Errors
/// When the model is of no family that `transformers` has, or the disk says no.
pub(crate) fn write(
    path: &Path,
    model: &Model<'_>,
    tensors: &[TensorInfo],
    bytes: impl FnMut(usize) -> Result<Vec<u8>, InteropError>,
) -> Result<(), InteropError> {
    let unwritable = |source| InteropError::Unwritable {
        path: path.to_owned(),
        source,
    };
    let Model {
        config,
        roles,
        stored,
    } = *model;
    let config_json = config_json(config, roles, stored)?;
    if path.join(INDEX).exists() {
        let other = format!("it holds {INDEX} of another model; take another folder");
        let kind = std::io::ErrorKind::AlreadyExists;
        return Err(unwritable(std::io::Error::new(kind, other)));
    }
    files::create_folder(path).map_err(unwritable)?;
    safetensors::write(&path.join(WEIGHTS), &[("format", "pt")], tensors, bytes)?;
    let generation = json!({
        "_from_model_config": true, "bos_token_id": roles.bos, "eos_token_id": eos(roles),
    });
    for (name, value) in [
        ("generation_config.json", generation),
        (CONFIG, config_json),
    ] {
        let text = format!("{value:#}\n");
        files::write(&path.join(name), text).map_err(unwritable)?;
    }
    Ok(())
}

fn eos(roles: &TokenRoles) -> Value {
    match roles.eos[..] {
        [] => Value::Null,
        [one] => json!(one),
        _ => json!(roles.eos),
    }
}

fn config_json(
    config: &ModelConfig,
    roles: &TokenRoles,
    stored: StoredType,
) -> Result<Value, InteropError> {
    let family = Family::of(config, FORMAT)?;
    let mut keys = match family {
        Family::Gpt2 => gpt2(config),
        Family::Llama | Family::Qwen3 => llama(config, family)?,
    };
    // Both spellings of the type: that of version 5 of transformers, and the one before.
    for (key, value) in [
        ("vocab_size", json!(config.vocab_size)),
        ("tie_word_embeddings", json!(config.tie_embeddings)),
        ("dtype", json!(stored.torch_name())),
        ("torch_dtype", json!(stored.torch_name())),
        ("bos_token_id", json!(roles.bos)),
        ("eos_token_id", eos(roles)),
        ("use_cache", json!(true)),
    ] {
        keys[key] = value;
    }
    Ok(keys)
}

fn llama(config: &ModelConfig, family: Family) -> Result<Value, InteropError> {
    let a = &config.architecture;
    let has_whole_heads = config.d_model.is_multiple_of(config.num_heads);
    let (class, kind) = match family {
        Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        _ if has_whole_heads => ("LlamaForCausalLM", "llama"),
        // The class of Llama wants a width that is a multiple, even where heads have their own.
        _ if !a.biases => ("MistralForCausalLM", "mistral"),
        _ => {
            return Err(InteropError::CannotHold {
                format: FORMAT,
                reason: "with biases, num_heads has to divide d_model there".to_owned(),
            });
        }
    };
    let scaling = match a.rope_scaling {
        RopeScaling::None => None,
        RopeScaling::Linear => Some(json!({"rope_type": "linear", "factor": a.rope_factor})),
        RopeScaling::Llama3 => Some(json!({
            "rope_type": "llama3", "factor": a.rope_factor,
            "low_freq_factor": a.rope_low_freq_factor, "high_freq_factor": a.rope_high_freq_factor,
            "original_max_position_embeddings": a.rope_original_context,
        })),
    };
    let mut parameters = scaling.clone().unwrap_or(json!({"rope_type": "default"}));
    parameters["rope_theta"] = json!(config.rope_theta);
    let mut keys = json!({
        "architectures": [class], "model_type": kind, "hidden_size": config.d_model,
        "intermediate_size": config.d_ff, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim(), "hidden_act": "silu",
        "max_position_embeddings": config.context_length, "rms_norm_eps": config.norm_eps,
        "rope_parameters": parameters, "rope_theta": config.rope_theta, "rope_scaling": scaling,
        "attention_bias": a.biases, "attention_dropout": 0.0, "initializer_range": 0.02,
    });
    match kind {
        "llama" => keys["mlp_bias"] = json!(a.biases),
        "mistral" => keys["sliding_window"] = Value::Null,
        _ => {}
    }
    Ok(keys)
}

fn gpt2(config: &ModelConfig) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": config.d_model,
        "n_layer": config.num_layers, "n_head": config.num_heads, "n_inner": config.d_ff,
        "n_positions": config.context_length, "n_ctx": config.context_length,
        "activation_function": "gelu_new", "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": true, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "initializer_range": 0.02,
    })
}
