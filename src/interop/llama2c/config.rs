//! A header as a model's shape, and the other way round. The base of the angles and what norms add are those that
//! `run.c` has in its code.

use super::Header;
use crate::config::{Architecture, ModelConfig, Precision};
use crate::interop::InteropError;

const THETA: f64 = 10_000.0;
const EPS: f64 = 1e-5;

impl Header {
    /// The shape of the model.
    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig {
            vocab_size: self.vocab_size,
            context_length: self.max_seq_len,
            d_model: self.dim,
            num_layers: self.n_layers,
            num_heads: self.n_heads,
            num_kv_heads: self.n_kv_heads,
            d_ff: self.hidden_dim,
            rope_theta: THETA,
            norm_eps: EPS,
            tie_embeddings: self.shared_classifier,
            precision: Precision::F32,
            architecture: Architecture::default(),
        }
    }

    /// That of a model of `config`.
    ///
    /// # Errors
    /// When `run.c` computes something else.
    pub(crate) fn of(config: &ModelConfig) -> Result<Self, InteropError> {
        let header = Self {
            dim: config.d_model,
            hidden_dim: config.d_ff,
            n_layers: config.num_layers,
            n_heads: config.num_heads,
            n_kv_heads: config.num_kv_heads,
            vocab_size: config.vocab_size,
            max_seq_len: config.context_length,
            shared_classifier: config.tie_embeddings,
        };
        let own = header.config();
        for (key, is_other) in [
            ("rope_theta", config.rope_theta != own.rope_theta),
            ("norm_eps", config.norm_eps != own.norm_eps),
            ("architecture", config.architecture != own.architecture),
        ] {
            if is_other {
                return Err(InteropError::CannotHold {
                    format: "a llama2.c file",
                    reason: format!("its {key} is not the one that run.c has in its code"),
                });
            }
        }
        Ok(header)
    }
}
