//! GGUF's keys of a model's shape, to ours and back: architectures `llama`, `qwen3` and `gpt2`.

use std::path::Path;

use super::super::elements::{StoredType, to_f32};
use super::super::family::Family;
use super::super::hugging_face::gpt2_architecture;
use super::super::names::Naming;
use super::super::{ElementType, InteropError, TensorInfo, TensorSource};
use super::{FORMAT, GgufFile, GgufValue};
use crate::config::{Architecture, ModelConfig, Precision, RopeScaling};
use crate::model::positions;

/// What Llama 3's angles are divided by, one a pair.
pub(in super::super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Opens the file at `path`.
///
/// # Errors
/// When it is missing or damaged, or the model is of a kind that is not supported.
pub(in super::super) fn open(path: &Path) -> Result<(ModelConfig, Naming, GgufFile), InteropError> {
    let file = GgufFile::open(path)?;
    let keys = Keys::of(&file)?;
    let (mut model, naming) = match keys.architecture.as_str() {
        "llama" => (llama(&keys)?, Naming::GgufLlama),
        "qwen3" => (llama(&keys)?, Naming::GgufQwen3),
        "gpt2" => (gpt2(&keys)?, Naming::GgufGpt2),
        other => return Err(keys.unsupported(format!("an architecture of \"{other}\""))),
    };
    model = model.normalised();
    model
        .check_but_for_context()
        .map_err(|source| InteropError::BadModel {
            path: path.to_owned(),
            source,
        })?;
    take_rope_divisors(&keys, &mut model)?;
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
        head_dim,
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
    if let Some(scale) = keys
        .number("attention.scale")?
        .filter(|scale| *scale != 0.0)
    {
        return Err(keys.unsupported(format!("{}.attention.scale = {scale}", keys.architecture)));
    }
    let factor = match keys.number("rope.scaling.factor")? {
        // Its name before it had a type.
        None => keys.number("rope.scale_linear")?,
        own => own,
    };
    let factor = factor.filter(|factor| *factor > 0.0);
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
    Ok(model)
}

/// GGUF has the divisors of Llama 3's angles and not what they were computed from: that is in keys of our own, or
/// else found again.
fn take_rope_divisors(keys: &Keys<'_>, model: &mut ModelConfig) -> Result<(), InteropError> {
    let file = keys.file;
    let Some(index) = file.tensors().iter().position(|t| t.name == ROPE_FREQS) else {
        return Ok(());
    };
    let info = &file.tensors()[index];
    let refused = |problem: String| InteropError::Tensor {
        path: file.path().to_owned(),
        name: ROPE_FREQS.to_owned(),
        problem,
    };
    if keys.architecture != "llama" || model.architecture.rope_scaling != RopeScaling::None {
        let what = format!(
            "{ROPE_FREQS} beside another scaling, or of \"{}\"",
            keys.architecture
        );
        return Err(keys.unsupported(what));
    }
    let pairs = model.head_dim() / 2;
    if info.shape != [pairs] {
        let found = &info.shape;
        return Err(refused(format!(
            "has the shape {found:?} where the model wants [{pairs}]"
        )));
    }
    let found = to_f32(info.element_type, &file.read(index)?, pairs).map_err(refused)?;
    let slowest = found.iter().copied().fold(1.0, f32::max);
    let guessed = (5..=20).map(|bits| OwnKeys {
        factor: slowest.into(),
        low: 1.0,
        high: 4.0,
        context: 1 << bits,
    });
    for tried in OwnKeys::read(file)?.into_iter().chain(guessed) {
        tried.put(model);
        let divisors = positions::divisors(model);
        let is_near = |(want, found): (&f64, &f32)| (want / f64::from(*found) - 1.0).abs() < 1e-5;
        if divisors.iter().zip(&found).all(is_near) {
            return Ok(());
        }
    }
    Err(refused(
        "is none of Llama 3's scaling with factors 1 and 4, and no other is known".to_owned(),
    ))
}

/// What Llama 3's divisors are computed from, in keys of our own.
struct OwnKeys {
    factor: f64,
    low: f64,
    high: f64,
    context: usize,
}

impl OwnKeys {
    const NAMES: [&str; 4] = [
        "gpu_tlm.rope_factor",
        "gpu_tlm.rope_low_freq_factor",
        "gpu_tlm.rope_high_freq_factor",
        "gpu_tlm.rope_original_context",
    ];

    fn read(file: &GgufFile) -> Result<Option<Self>, InteropError> {
        let metadata = file.metadata();
        let [factor, low, high, context] = Self::NAMES;
        let context = metadata.find_u64(context)?;
        let context = context.and_then(|context| usize::try_from(context).ok());
        let number = |key: &str| metadata.find_f64(key);
        let numbers = (number(factor)?, number(low)?, number(high)?, context);
        let (Some(factor), Some(low), Some(high), Some(context)) = numbers else {
            return Ok(None);
        };
        let own = Self {
            factor,
            low,
            high,
            context,
        };
        Ok((high > low && factor > 0.0).then_some(own))
    }

    fn of(config: &ModelConfig) -> Self {
        let a = &config.architecture;
        Self {
            factor: a.rope_factor,
            low: a.rope_low_freq_factor,
            high: a.rope_high_freq_factor,
            context: a.rope_original_context,
        }
    }

    fn put(&self, model: &mut ModelConfig) {
        let a = &mut model.architecture;
        a.rope_scaling = RopeScaling::Llama3;
        a.rope_factor = self.factor;
        a.rope_low_freq_factor = self.low;
        a.rope_high_freq_factor = self.high;
        a.rope_original_context = self.context;
    }
}

/// What the angles of a model are divided by, as a tensor and its bytes.
///
/// # Errors
/// When it is of a family for which llama.cpp has no such tensor.
pub(crate) fn rope_divisors(
    config: &ModelConfig,
    family: Family,
) -> Result<Option<(TensorInfo, Vec<u8>)>, InteropError> {
    if config.architecture.rope_scaling != RopeScaling::Llama3 {
        return Ok(None);
    }
    if family != Family::Llama {
        return Err(InteropError::CannotHold {
            format: FORMAT,
            reason: "rope_scaling = llama3 and qk_norm do not go together there".to_owned(),
        });
    }
    let divisors = positions::divisors(config);
    let info = TensorInfo {
        name: ROPE_FREQS.to_owned(),
        element_type: ElementType::F32,
        shape: vec![divisors.len()],
    };
    #[allow(clippy::cast_possible_truncation, reason = "the tensor is of f32")]
    let bytes = divisors.iter().flat_map(|d| (*d as f32).to_le_bytes());
    Ok(Some((info, bytes.collect())))
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
        d_ff: keys
            .size("feed_forward_length")?
            .unwrap_or(usize::saturating_mul(4, d_model)),
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
    match config.architecture.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear => {
            own("rope.scaling.type", text("linear"));
            own(
                "rope.scaling.factor",
                float(config.architecture.rope_factor),
            );
        }
        RopeScaling::Llama3 => {
            let own = OwnKeys::of(config);
            let values = [
                float(own.factor),
                float(own.low),
                float(own.high),
                number(own.context),
            ];
            let names = OwnKeys::NAMES.map(str::to_owned);
            keys.extend(names.into_iter().zip(values));
        }
    }
    keys
}
