//! The feed-forward half of a block: `w2(silu(w1 x) * w3 x)`, or without a gate `w2(gelu(w1 x + b1)) + b2`.

use super::Pass;
use super::linear::Linear;
use crate::config::Activation;
use crate::gpu::Tensor;
use crate::kernels::gelu;

/// A feed-forward layer.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// What is between the two.
    pub activation: Activation,
    /// Gate and up, `[d_ff, d_model]` each; or up alone.
    pub up: Linear,
    /// Down, `[d_model, d_ff]`.
    pub down: Linear,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    input: Tensor,
    /// Gate and up side by side, an operand; or up alone, of f32 in any precision.
    projected: Tensor,
    hidden: Tensor,
}

impl Mlp {
    /// Maps the normed input `x` `[rows, d_model]`, an operand, and adds the result to `residual`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> (Tensor, Saved) {
        let (projected, hidden) = match self.activation {
            Activation::Swiglu => self.up.forward_gated(pass, x),
            Activation::Gelu => {
                let up = self.up.forward_words(pass, x);
                let hidden = pass.plan.scratch_like("hidden", up);
                gelu::forward_into(pass.plan, up, hidden);
                (up, pass.operand(hidden))
            }
        };
        let y = self.down.forward_residual(pass, hidden, residual);
        let saved = Saved {
            input: x,
            projected,
            hidden,
        };
        (y, saved)
    }

    /// Gradient for the normed input from that of the residual stream, an operand.
    pub fn backward(&self, pass: &mut Pass<'_>, saved: Saved, d_y: Tensor) -> Tensor {
        let Saved {
            input,
            projected,
            hidden,
        } = saved;
        let d_projected = match self.activation {
            Activation::Swiglu => {
                let up_first = projected.cols - hidden.cols;
                self.down
                    .backward_gated(pass, (hidden, d_y), projected, up_first)
            }
            Activation::Gelu => {
                let d_hidden = pass.plan.scratch_like("d_hidden", projected);
                self.down.backward(pass, hidden, d_y, Some(d_hidden));
                let d_up = gelu::backward(pass.plan, projected, d_hidden);
                pass.operand(d_up)
            }
        };
        let d_x = pass.plan.scratch("d_normed", input.rows, input.cols);
        self.up.backward(pass, input, d_projected, Some(d_x));
        d_x
    }
}
