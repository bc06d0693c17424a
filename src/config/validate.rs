//! Checks settings against each other, once, so that everything behind can rely on them.

use super::{
    Activation, Architecture, ConfigError, LoraConfig, ModelConfig, Positions, RopeScaling,
    Settings, TrainConfig,
};
use crate::gpu::AdapterRequest;
use crate::kernels::attention::MAX_HEAD_DIM;

impl Settings {
    /// The model's shape. `tokenizer_vocab` stands in where `vocab_size` is not given.
    ///
    /// # Errors
    /// When a size is zero, too large, or does not go with another.
    pub fn model(&self, tokenizer_vocab: Option<usize>) -> Result<ModelConfig, ConfigError> {
        let Some(vocab_size) = self.vocab_size.or(tokenizer_vocab) else {
            return invalid(
                "vocab_size",
                "not given",
                "no tokenizer tells it; set vocab_size or tokenizer",
            );
        };
        if let Some(tokens) = tokenizer_vocab.filter(|&tokens| tokens > vocab_size) {
            return invalid(
                "vocab_size",
                vocab_size,
                format!("the tokenizer has {tokens} tokens; set at least that"),
            );
        }
        let model = ModelConfig {
            vocab_size,
            context_length: self.context_length,
            d_model: self.d_model,
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads.unwrap_or(self.num_heads),
            d_ff: self.d_ff.unwrap_or(match self.activation {
                Activation::Swiglu => (self.d_model * 8 / 3).next_multiple_of(8),
                Activation::Gelu => self.d_model.saturating_mul(4),
            }),
            rope_theta: self.rope_theta,
            norm_eps: self.norm_eps,
            tie_embeddings: self.tie_embeddings,
            precision: self.precision,
            architecture: self.architecture(),
        };
        let model = model.normalised();
        model.check()?;
        let sequences = self.micro_batch_size.unwrap_or(self.batch_size);
        model.check_tensors(sequences.saturating_mul(self.context_length))?;
        Ok(model)
    }

    fn architecture(&self) -> Architecture {
        Architecture {
            head_dim: self.head_dim,
            norm: self.norm,
            activation: self.activation,
            positions: self.positions,
            biases: self.biases,
            qk_norm: self.qk_norm,
            rope_scaling: self.rope_scaling,
            rope_factor: self.rope_factor,
            rope_low_freq_factor: self.rope_low_freq_factor,
            rope_high_freq_factor: self.rope_high_freq_factor,
            rope_original_context: self.rope_original_context,
        }
    }

    /// How to train.
    ///
    /// # Errors
    /// When a value is out of range or does not go with another.
    pub fn train(&self) -> Result<TrainConfig, ConfigError> {
        let train = TrainConfig {
            sampling: self.sampling,
            seed: self.seed,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size.unwrap_or(self.batch_size),
            max_iters: self.max_iters,
            learning_rate: self.learning_rate,
            min_learning_rate: self.min_learning_rate.unwrap_or(self.learning_rate / 10.0),
            warmup_iters: self.warmup_iters.unwrap_or(self.max_iters / 20),
            cosine_cycle_iters: self.cosine_cycle_iters.unwrap_or(self.max_iters),
            schedule: self.schedule,
            weight_decay: self.weight_decay,
            no_decay: self.no_decay.clone(),
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            grad_clip: self.grad_clip,
            activation_checkpointing: self.activation_checkpointing,
            document_mask: self.document_mask,
            freeze: self.freeze.clone(),
            frozen_type: self.frozen_type,
            lora: self.lora()?,
        };
        train.check()?;
        // A run of adapters goes on from theirs, and from the model that they adapt.
        if self.load_checkpoint.is_some() && self.init_from.is_some() && train.lora.is_none() {
            return invalid(
                "init_from",
                "given",
                "load_checkpoint is given too; choose one of them",
            );
        }
        Ok(train)
    }

    fn lora(&self) -> Result<Option<LoraConfig>, ConfigError> {
        if self.lora_dropout != 0.0 {
            let rule = "there is no dropout; leave it out, or lower lora_rank against overfitting";
            return invalid("lora_dropout", self.lora_dropout, rule);
        }
        if self.lora_rank == 0 {
            let rule = "lora_rank is not given; set it too";
            let is_default = self.lora_targets == Self::default().lora_targets;
            return match self.lora_alpha {
                Some(alpha) => invalid("lora_alpha", alpha, rule),
                None if is_default => Ok(None),
                None => invalid("lora_targets", self.lora_targets.join(","), rule),
            };
        }
        if self.lora_targets.iter().any(String::is_empty) {
            let rule = "each target has a part of a name; leave out empty ones";
            return invalid("lora_targets", format!("{:?}", self.lora_targets), rule);
        }
        #[allow(clippy::cast_precision_loss, reason = "a rank is small")]
        let alpha = self.lora_alpha.unwrap_or(self.lora_rank as f64);
        positive("lora_alpha", alpha)?;
        if !self.freeze.is_empty() {
            let rule =
                "with lora_rank all of the model's own parameters stay as they are; leave it out";
            return invalid("freeze", self.freeze.join(","), rule);
        }
        Ok(Some(LoraConfig {
            rank: self.lora_rank,
            alpha,
            targets: self.lora_targets.clone(),
        }))
    }

    /// Which adapter to open.
    ///
    /// # Errors
    /// When the backend's name is unknown.
    pub fn adapter_request(&self) -> Result<AdapterRequest, crate::gpu::GpuError> {
        let backend = self.backend.as_deref().map(str::parse).transpose()?;
        Ok(AdapterRequest {
            name: self.adapter.clone(),
            backend,
        })
    }
}

impl ModelConfig {
    /// Checks the shape on its own, as a checkpoint's must be checked too.
    ///
    /// # Errors
    /// When a size is zero, too large, or does not go with another.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("context_length", self.context_length),
            ("d_model", self.d_model),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("d_ff", self.d_ff),
        ] {
            // Shaders count in u32; the cap leaves room for products with a batch.
            if !(1..=1 << 24).contains(&value) {
                return invalid(key, value, "it must be from 1 to 16777216");
            }
        }
        let own_head_dim = self.architecture.head_dim;
        if own_head_dim.is_none() && !self.d_model.is_multiple_of(self.num_heads) {
            let rule = format!(
                "num_heads ({}) must divide it where no head_dim is given",
                self.num_heads
            );
            return invalid("d_model", self.d_model, rule);
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let rule = format!("it must divide num_heads ({})", self.num_heads);
            return invalid("num_kv_heads", self.num_kv_heads, rule);
        }
        self.check_head_dim()?;
        positive("rope_theta", self.rope_theta)?;
        positive("norm_eps", self.norm_eps)?;
        self.check_rope_scaling()?;
        self.check_tensors(self.context_length)
    }

    fn check_head_dim(&self) -> Result<(), ConfigError> {
        let head_dim = self.head_dim();
        if !head_dim.is_multiple_of(2) {
            let rule = format!(
                "with num_heads {} that makes an odd head_dim of {head_dim}, and the rotary \
                 embedding turns pairs; choose an even one",
                self.num_heads
            );
            return match self.architecture.head_dim {
                None => invalid("d_model", self.d_model, rule),
                Some(_) => invalid("head_dim", head_dim, "it must be even"),
            };
        }
        match head_dim {
            0 => invalid("head_dim", 0, "it must be at least 2"),
            1..=MAX_HEAD_DIM => Ok(()),
            _ => Err(ConfigError::Unsupported(format!(
                "head_dim {head_dim} (d_model / num_heads); attention holds at most {MAX_HEAD_DIM}, \
                 so raise num_heads"
            ))),
        }
    }

    fn check_rope_scaling(&self) -> Result<(), ConfigError> {
        let a = &self.architecture;
        if a.rope_scaling == RopeScaling::None {
            return Ok(());
        }
        if a.positions == Positions::Learned {
            let rule = "learned positions have no angles; leave it out";
            return invalid("rope_scaling", "given", rule);
        }
        positive("rope_factor", a.rope_factor)?;
        positive("rope_low_freq_factor", a.rope_low_freq_factor)?;
        if a.rope_high_freq_factor <= a.rope_low_freq_factor {
            let rule = format!(
                "it must be over rope_low_freq_factor ({})",
                a.rope_low_freq_factor
            );
            return invalid("rope_high_freq_factor", a.rope_high_freq_factor, rule);
        }
        if a.rope_original_context == 0 {
            return invalid("rope_original_context", 0, "it must be at least 1");
        }
        Ok(())
    }

    /// [`ModelConfig::check`] of a model of which nobody has said yet how much of a text it shall see.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check_but_for_context(&self) -> Result<(), ConfigError> {
        let model = Self {
            context_length: 1,
            ..self.clone()
        };
        model.check()
    }

    /// Refuses tensors with more elements than a shader can count: weights, activations of `rows`
    /// tokens, and the smallest chunk of logits.
    fn check_tensors(&self, rows: usize) -> Result<(), ConfigError> {
        const MOST: usize = 1 << 31;
        const SMALLEST_CHUNK: usize = 64;
        let vectors = self.context_length.saturating_mul(self.d_model);
        if self.architecture.positions == Positions::Learned && vectors > MOST_POSITIONS {
            return Err(ConfigError::Unsupported(format!(
                "vectors of positions of context_length x d_model = {} x {} elements; they have to fit a binding of \
                 {MOST_POSITIONS}, so lower one of them",
                self.context_length, self.d_model
            )));
        }
        for (what, height, width) in [
            ("vocab_size x d_model", self.vocab_size, self.d_model),
            ("d_ff x d_model", self.d_ff, self.d_model),
            (
                "num_heads x head_dim x d_model",
                self.num_heads * self.head_dim(),
                self.d_model,
            ),
            ("tokens of a pass x d_model", rows, self.d_model),
            ("tokens of a pass x d_ff", rows, self.d_ff),
            ("64 x vocab_size", SMALLEST_CHUNK, self.vocab_size),
        ] {
            if height.saturating_mul(width) > MOST {
                return Err(ConfigError::Unsupported(format!(
                    "a tensor of {what} = {height} x {width} elements; shaders count to {MOST}, so \
                     lower one of them"
                )));
            }
        }
        Ok(())
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if self.batch_size == 0 || self.batch_size > 1 << 20 {
            return invalid(
                "batch_size",
                self.batch_size,
                "it must be from 1 to 1048576",
            );
        }
        if self.micro_batch_size == 0 || !self.batch_size.is_multiple_of(self.micro_batch_size) {
            let rule = format!("it must divide batch_size ({})", self.batch_size);
            return invalid("micro_batch_size", self.micro_batch_size, rule);
        }
        if self.max_iters == 0 {
            return invalid("max_iters", 0, "it must be at least 1");
        }
        positive("learning_rate", self.learning_rate)?;
        positive("eps", self.eps)?;
        for (key, value) in [
            ("min_learning_rate", self.min_learning_rate),
            ("weight_decay", self.weight_decay),
            ("grad_clip", self.grad_clip),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return invalid(key, value, "it must be zero or more");
            }
        }
        if self.min_learning_rate > self.learning_rate {
            let rule = format!("it must not be over learning_rate ({})", self.learning_rate);
            return invalid("min_learning_rate", self.min_learning_rate, rule);
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return invalid(key, value, "it must be at least 0 and below 1");
            }
        }
        Ok(())
    }
}

/// Elements of the largest binding that every adapter has.
const MOST_POSITIONS: usize = 1 << 25;

fn positive(key: &'static str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    invalid(key, value, "it must be a number over 0")
}

fn invalid<T>(
    key: &'static str,
    found: impl std::fmt::Display,
    rule: impl Into<String>,
) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid {
        key,
        found: found.to_string(),
        rule: rule.into(),
    })
}
