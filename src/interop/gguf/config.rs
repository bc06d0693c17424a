//! GGUF's keys of a model's shape, to ours and back: architectures `llama`, `qwen3` and `gpt2`.

use std::path::Path;

use super::super::elements::{StoredType, to_f32};
use super::super::family::Family;
use super::super::hugging_face::gpt2_architecture;
use super::super::names::Naming;
use super::super::{InteropError, TensorSource};
use super::{GgufFile, GgufValue};
use crate::config::{Architecture, ModelConfig, Precision, RopeScaling};
use crate::model::positions;

/// What Llama 3's angles are divided by, one a pair.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Opens the file at `path`.
///
/// # Errors
/// When it is missing or damaged, or the model is of a kind that is not supported.
pub(in super::super) fn open(path: &Path) -> Result<(ModelConfig, Naming, GgufFile), InteropError> {
    let file = GgufFile::open(path)?;
    let keys = Keys::of(&file)?;
    let (model, naming) = match keys.architecture.as_str() {
        "llama" => (llama(&keys)?, Naming::GgufLlama),
        "qwen3" => (llama(&keys)?, Naming::GgufQwen3),
        "gpt2" => (gpt2(&keys)?, Naming::GgufGpt2),
        other => return Err(keys.unsupported(format!("an architecture of \"{other}\""))),
    };
    model.check().map_err(|source| InteropError::BadModel {
        path: path.to_owned(),
        source,
    })?;
    Ok((model, naming, file))
}

/// The keys of a file that begin with its architecture.
struct Keys<'f> {
    file: &'f GgufFile,
    architecture: String,
}

impl<'f> Keys<'f> {
    fn of(file: &'f GgufFile) -> Result<Self, InteropError> {
        let architecture = file.metadata().get_str("general.architecture")?;
        Ok(Self {
            architecture: architecture.to_owned(),
            file,
        })
    }

    fn unsupported(&self, what: String) -> InteropError {
        InteropError::Unsupported {
            path: self.file.path().to_owned(),
            what,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn size(&self, name: &str) -> Result<Option<usize>, InteropError> {
        let value = self.file.metadata().find_u64(&self.key(name))?;
        Ok(value.map(|value| usize::try_from(value).unwrap_or(usize::MAX)))
    }

    fn required(&self, name: &str) -> Result<usize, InteropError> {
        let value = self.file.metadata().get_u64(&self.key(name))?;
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, InteropError> {
        self.file.metadata().find_f64(&self.key(name))
    }

    fn text(&self, name: &str) -> Result<Option<&'f str>, InteropError> {
        self.file.metadata().find_str(&self.key(name))
    }

    /// Rows of the embedding.
    fn vocab_size(&self) -> Result<usize, InteropError> {
        let name = "token_embd.weight";
        let tensor = self.file.tensors().iter().find(|t| t.name == name);
        let rows = tensor.and_then(|tensor| tensor.shape.first());
        rows.copied().ok_or_else(|| InteropError::Missing {
            path: self.file.path().to_owned(),
            name: name.to_owned(),
        })
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensors().iter().any(|t| t.name == tensor)
    }
}

fn llama(keys: &Keys<'_>) -> Result<ModelConfig, InteropError> {
    for key in ["expert_count", "attention.sliding_window"] {
        if let Some(value) = keys.size(key)?.filter(|value| *value > 0) {
            return Err(keys.unsupported(format!("{}.{key} = {value}", keys.architecture)));
        }
    }
    let (num_heads, d_model) = (
        keys.required("attention.head_count")?,
        keys.required("embedding_length")?,
    );
    let head_dim = keys.size("attention.key_length")?;
    let values = keys.size("attention.value_length")?;
    let turned = keys.size("rope.dimension_count")?;
    let whole = head_dim.unwrap_or(d_model / num_heads.max(1));
    if let Some(other) = [values, turned]
        .into_iter()
        .flatten()
        .find(|own| *own != whole)
    {
        return Err(keys.unsupported(format!(
            "a head of {whole} elements of which {other} are turned or make a value"
        )));
    }
    let mut architecture = Architecture {
        head_dim: head_dim.filter(|own| own * num_heads != d_model),
        qk_norm: keys.architecture == "qwen3",
        biases: keys.has("blk.0.attn_q.bias"),
        ..Architecture::default()
    };
    let rope_theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    let mut model = ModelConfig {
        vocab_size: keys.vocab_size()?,
        context_length: keys.required("context_length")?,
        d_model,
        num_layers: keys.required("block_count")?,
        num_heads,
        num_kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(num_heads),
        d_ff: keys.required("feed_forward_length")?,
        rope_theta,
        norm_eps: keys
            .number("attention.layer_norm_rms_epsilon")?
            .unwrap_or(1e-5),
        tie_embeddings: !keys.has("output.weight"),
        precision: Precision::F32,
        architecture: architecture.clone(),
    };
    let factor = keys
        .number("rope.scaling.factor")?
        .filter(|factor| *factor > 0.0);
    match (keys.text("rope.scaling.type")?, factor) {
        (Some("none"), _) | (None | Some("linear"), None) => {}
        // Without a type, llama.cpp's is linear.
        (None | Some("linear"), Some(factor)) => {
            architecture.rope_scaling = RopeScaling::Linear;
            architecture.rope_factor = factor;
        }
        (Some(other), _) => return Err(keys.unsupported(format!("a rope scaling of \"{other}\""))),
    }
    model.architecture = architecture;
    take_rope_divisors(keys.file, &mut model)?;
    Ok(model)
}

/// GGUF has the divisors of Llama 3's angles and not what they were computed from, so that is found again.
fn take_rope_divisors(file: &GgufFile, model: &mut ModelConfig) -> Result<(), InteropError> {
    let Some(index) = file.tensors().iter().position(|t| t.name == ROPE_FREQS) else {
        return Ok(());
    };
    let info = &file.tensors()[index];
    let refused = |problem: String| InteropError::Tensor {
        path: file.path().to_owned(),
        name: ROPE_FREQS.to_owned(),
        problem,
    };
    let len = info.shape.iter().product();
    let found = to_f32(info.element_type, &file.read(index)?, len).map_err(refused)?;
    let factor = found.iter().copied().fold(1.0, f32::max);
    for context in (5..=20).map(|bits| 1usize << bits) {
        let a = &mut model.architecture;
        a.rope_scaling = RopeScaling::Llama3;
        a.rope_factor = factor.into();
        a.rope_original_context = context;
        let divisors = positions::divisors(model);
        let is_near = |(want, found): (&f64, &f32)| (want / f64::from(*found) - 1.0).abs() < 1e-5;
        if divisors.len() == found.len() && divisors.iter().zip(&found).all(is_near) {
            return Ok(());
        }
    }
    Err(refused(
        "is none of Llama 3's scaling with factors 1 and 4, and no other is known".to_owned(),
    ))
}

/// What the angles of a model are divided by, for a file of its own.
pub(crate) fn rope_divisors(config: &ModelConfig) -> Option<(String, Vec<f32>)> {
    let is_llama3 = config.architecture.rope_scaling == RopeScaling::Llama3;
    #[allow(clippy::cast_possible_truncation, reason = "the tensor is of f32")]
    let divisors = || positions::divisors(config).into_iter().map(|d| d as f32);
    is_llama3.then(|| (ROPE_FREQS.to_owned(), divisors().collect()))
}

fn gpt2(keys: &Keys<'_>) -> Result<ModelConfig, InteropError> {
    let (num_heads, d_model) = (
        keys.required("attention.head_count")?,
        keys.required("embedding_length")?,
    );
    Ok(ModelConfig {
        vocab_size: keys.vocab_size()?,
        context_length: keys.required("context_length")?,
        d_model,
        num_layers: keys.required("block_count")?,
        num_heads,
        num_kv_heads: num_heads,
        d_ff: keys.size("feed_forward_length")?.unwrap_or(4 * d_model),
        rope_theta: 10_000.0,
        norm_eps: keys.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
        tie_embeddings: !keys.has("output.weight"),
        precision: Precision::F32,
        architecture: gpt2_architecture(),
    })
}

/// The keys of a model of `config`, which is of `family`, but for those of its tokenizer.
pub(crate) fn metadata(
    config: &ModelConfig,
    family: Family,
    stored: StoredType,
    name: &str,
) -> Vec<(String, GgufValue)> {
    let architecture = match family {
        Family::Llama => "llama",
        Family::Qwen3 => "qwen3",
        Family::Gpt2 => "gpt2",
    };
    let number = |value: usize| GgufValue::U32(u32::try_from(value).unwrap_or(u32::MAX));
    #[allow(clippy::cast_possible_truncation, reason = "llama.cpp's keys are f32")]
    let float = |value: f64| GgufValue::F32(value as f32);
    let text = |value: &str| GgufValue::Text(value.to_owned());
    // llama.cpp's numbers of what most tensors are.
    let file_type = match stored {
        StoredType::F32 => 0,
        StoredType::F16 => 1,
        StoredType::Q4_0 => 2,
        StoredType::Q8_0 => 7,
        StoredType::Bf16 => 32,
    };
    let mut keys = vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.name".to_owned(), text(name)),
        ("general.file_type".to_owned(), number(file_type)),
        ("general.quantization_version".to_owned(), number(2)),
    ];
    let mut own = |key: &str, value| keys.push((format!("{architecture}.{key}"), value));
    own("context_length", number(config.context_length));
    own("embedding_length", number(config.d_model));
    own("block_count", number(config.num_layers));
    own("feed_forward_length", number(config.d_ff));
    own("attention.head_count", number(config.num_heads));
    if family == Family::Gpt2 {
        let eps = float(config.norm_eps);
        own("attention.layer_norm_epsilon", eps);
        return keys;
    }
    let eps = float(config.norm_eps);
    own("attention.layer_norm_rms_epsilon", eps);
    own("attention.head_count_kv", number(config.num_kv_heads));
    own("attention.key_length", number(config.head_dim()));
    own("attention.value_length", number(config.head_dim()));
    own("rope.dimension_count", number(config.head_dim()));
    own("rope.freq_base", float(config.rope_theta));
    own("vocab_size", number(config.vocab_size));
    if config.architecture.rope_scaling == RopeScaling::Linear {
        own("rope.scaling.type", text("linear"));
        own(
            "rope.scaling.factor",
            float(config.architecture.rope_factor),
        );
    }
    keys
}
