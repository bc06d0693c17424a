//! Normalisation of rows: by the root mean square with a gain, or to mean 0 and variance 1 with a gain and a bias.

use super::Pass;
use crate::config::{ModelConfig, Norm as Kind};
use crate::gpu::{Elements, Tensor};
use crate::kernels::Gradient;
use crate::kernels::{layernorm, rmsnorm};
use crate::weights::{ParameterId, ParameterTable};

/// A normalisation layer.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// `[d_model]`.
    weight: ParameterId,
    /// `[d_model]`, of a LayerNorm.
    bias: Option<ParameterId>,
    /// Added to the mean square or the variance.
    eps: f32,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub enum Saved {
    /// Of RMSNorm.
    Rms(rmsnorm::Saved),
    /// Of LayerNorm.
    Layer(layernorm::Saved),
}

impl Norm {
    /// The layer of that name in a model of `config`, whose parameters `table` holds.
    pub fn new(config: &ModelConfig, table: &ParameterTable, name: &str) -> Self {
        let bias = match config.architecture.norm {
            Kind::Rms => None,
            Kind::Layer => Some(table.id(&format!("{name}.bias"))),
        };
        #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
        let eps = config.norm_eps as f32;
        Self {
            weight: table.id(&format!("{name}.weight")),
            bias,
            eps,
        }
    }

    /// Whether its gain or bias is trained.
    pub fn is_trained(&self, pass: &Pass<'_>) -> bool {
        let is_trained = |id| !pass.gradient(id).is_empty();
        is_trained(self.weight) || self.bias.is_some_and(is_trained)
    }

    /// Normalises `x` `[rows, d_model]` to an operand.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> (Tensor, Saved) {
        let weight = pass.vector(self.weight);
        let elements = pass.operands();
        match self.bias {
            None => {
                let (y, inv_rms) = rmsnorm::forward(pass.plan, x, weight, self.eps, elements);
                (y, Saved::Rms(rmsnorm::Saved { input: x, inv_rms }))
            }
            Some(bias) => {
                let bias = pass.vector(bias);
                let (y, saved) = layernorm::forward(pass.plan, x, weight, bias, self.eps, elements);
                (y, Saved::Layer(saved))
            }
        }
    }

    /// Adds the gradient for the input to `d_x`, or stores it there unless `add`, and returns `d_x` as an
    /// operand. Those for gain and bias are whole when the pass's sums are flushed.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        d_y: Tensor,
        d_x: Tensor,
        add: bool,
    ) -> Tensor {
        let weight = pass.vector(self.weight);
        let d_weight = pass.vector_gradient(self.weight);
        let d_input = Gradient {
            tensor: d_x,
            accumulate: add,
        };
        let halves = match pass.operands() {
            Elements::Words => None,
            Elements::Halves => Some(pass.plan.scratch_halves("d_residual", d_x.rows, d_x.cols)),
        };
        match saved {
            Saved::Rms(saved) => {
                let gradients = rmsnorm::Gradients {
                    d_output: d_y,
                    d_input,
                    d_weight,
                    halves,
                };
                rmsnorm::backward(pass.plan, saved, weight, gradients, &mut pass.sums);
            }
            Saved::Layer(saved) => {
                let gradients = layernorm::Gradients {
                    d_output: d_y,
                    d_input,
                    d_weight,
                    d_bias: self.bias.and_then(|bias| pass.vector_gradient(bias)),
                    halves,
                };
                layernorm::backward(pass.plan, saved, weight, gradients, &mut pass.sums);
            }
        }
        halves.unwrap_or(d_x)
    }
}
