//! The feed-forward half of a block: `w2(silu(w1 x) * w3 x)`.

use super::Pass;
use super::linear::Linear;
use crate::gpu::Tensor;

/// A gated feed-forward layer.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Gate and up, `[d_ff, d_model]` each.
    pub w1_w3: Linear,
    /// Down, `[d_model, d_ff]`.
    pub w2: Linear,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    input: Tensor,
    /// Both side by side.
    gate_up: Tensor,
    hidden: Tensor,
}

impl Mlp {
    /// Maps the normed input `x` `[rows, d_model]`, an operand, and adds the result to `residual`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> (Tensor, Saved) {
        let (gate_up, hidden) = self.w1_w3.forward_gated(pass, x);
        let y = self.w2.forward_residual(pass, hidden, residual);
        (
            y,
            Saved {
                input: x,
                gate_up,
                hidden,
            },
        )
    }

    /// Gradient for the normed input from that of the residual stream, an operand.
    pub fn backward(&self, pass: &mut Pass<'_>, saved: Saved, d_y: Tensor) -> Tensor {
        let accumulate = pass.accumulates();
        let Saved {
            input,
            gate_up,
            hidden,
        } = saved;
        self.w2.backward_weight(pass, hidden, d_y, accumulate);
        let up_first = gate_up.cols - hidden.cols;
        let d_gate_up = self.w2.backward_gated(pass, d_y, gate_up, up_first);
        let d_x = pass.plan.scratch("d_normed", input.rows, input.cols);
        self.w1_w3.backward_input(pass, d_gate_up, d_x);
        self.w1_w3
            .backward_weight(pass, input, d_gate_up, accumulate);
        d_x
    }
}
