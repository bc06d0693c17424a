//! Which of the families of models that other programs know a model is of, for export.

use super::InteropError;
use super::hugging_face::gpt2_architecture;
use crate::config::{Activation, ModelConfig, Norm, Positions};

/// A family of models that other programs have a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama, Mistral, SmolLM2.
    Llama,
    /// Llama with norms of queries and keys.
    Qwen3,
    /// LayerNorm, GELU, biases, learned positions, heads of their own.
    Gpt2,
}

impl Family {
    /// The family of `config`, for a file of the format that is named.
    ///
    /// # Errors
    /// When it is of none; the error names a key that does not fit.
    pub fn of(config: &ModelConfig, format: &'static str) -> Result<Self, InteropError> {
        let a = &config.architecture;
        let refused = |reason: String| Err(InteropError::CannotHold { format, reason });
        if a.norm == Norm::Layer {
            let gpt2 = gpt2_architecture();
            let differing = [
                ("activation", a.activation != gpt2.activation),
                ("positions", a.positions != gpt2.positions),
                ("biases", a.biases != gpt2.biases),
                ("qk_norm", a.qk_norm),
                ("head_dim", a.head_dim.is_some()),
                ("num_kv_heads", config.num_kv_heads != config.num_heads),
            ];
            return match differing.iter().find(|(_, differs)| *differs) {
                Some((key, _)) => refused(format!(
                    "with norm = layer it has to be a GPT-2, whose {key} is another"
                )),
                None => Ok(Self::Gpt2),
            };
        }
        if a.activation == Activation::Gelu {
            return refused("norm = rms goes with activation = swiglu there".to_owned());
        }
        if a.positions == Positions::Learned {
            return refused("norm = rms goes with positions = rope there".to_owned());
        }
        match (a.qk_norm, a.biases) {
            (true, true) => refused("qk_norm and biases do not go together there".to_owned()),
            (true, false) => Ok(Self::Qwen3),
            (false, _) => Ok(Self::Llama),
        }
    }
}
