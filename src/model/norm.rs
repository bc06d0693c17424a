//! RMSNorm with a gain.

use super::Pass;
use crate::gpu::{Elements, Tensor};
use crate::kernels::Gradient;
pub use crate::kernels::rmsnorm::Saved;
use crate::kernels::rmsnorm::{self, Gradients};
use crate::weights::ParameterId;

/// A normalisation layer.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// `[d_model]`.
    pub weight: ParameterId,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    /// A gain is one row, which is never cut into parts.
    fn gain(&self, parts: &[Tensor]) -> Tensor {
        parts[0]
    }

    /// Normalises `x` `[rows, d_model]` to an operand.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> (Tensor, Saved) {
        let weight = self.gain(pass.weight(self.weight));
        let (y, inv_rms) = rmsnorm::forward(pass.plan, x, weight, self.eps, pass.operands());
        (y, Saved { input: x, inv_rms })
    }

    /// Adds the gradient for the input to `d_x`, or stores it there unless `add`, and returns `d_x` as an
    /// operand. That for the gain is whole when the pass's sums are flushed.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        d_y: Tensor,
        d_x: Tensor,
        add: bool,
    ) -> Tensor {
        let weight = self.gain(pass.weight(self.weight));
        let d_input = Gradient {
            tensor: d_x,
            accumulate: add,
        };
        let d_weight = pass.gradient(self.weight).first().map(|&tensor| Gradient {
            tensor,
            accumulate: pass.accumulates(),
        });
        let halves = match pass.operands() {
            Elements::Words => None,
            Elements::Halves => Some(pass.plan.scratch_halves("d_residual", d_x.rows, d_x.cols)),
        };
        let gradients = Gradients {
            d_output: d_y,
            d_input,
            d_weight,
            halves,
        };
        rmsnorm::backward(pass.plan, saved, weight, gradients, &mut pass.sums);
        halves.unwrap_or(d_x)
    }
}
