//! RMSNorm with a gain.

use super::Pass;
use crate::gpu::Tensor;
pub use crate::kernels::rmsnorm::Saved;
use crate::kernels::rmsnorm::{self, Gradient, Gradients};
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

    /// Normalises `x` `[rows, d_model]`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> (Tensor, Saved) {
        let weight = self.gain(pass.weight(self.weight));
        let (y, inv_rms) = rmsnorm::forward(pass.plan, x, weight, self.eps);
        (y, Saved { input: x, inv_rms })
    }

    /// Adds the gradient for the input to `d_x`, or stores it there unless `add`. That for the gain is whole
    /// when the pass's sums are flushed.
    pub fn backward(&self, pass: &mut Pass<'_>, saved: Saved, d_y: Tensor, d_x: Tensor, add: bool) {
        let weight = self.gain(pass.weight(self.weight));
        let d_input = Gradient {
            tensor: d_x,
            accumulate: add,
        };
        let d_weight = pass.gradient(self.weight).first().map(|&tensor| Gradient {
            tensor,
            accumulate: pass.accumulates(),
        });
        let gradients = Gradients {
            d_output: d_y,
            d_input,
            d_weight,
        };
        rmsnorm::backward(pass.plan, saved, weight, gradients, &mut pass.sums);
    }
}
