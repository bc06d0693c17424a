//! The feed-forward half of a block: `w2(silu(w1 x) * w3 x)`.

use super::Pass;
use super::linear::{Linear, backward_shared_input};
use crate::gpu::Tensor;

/// A gated feed-forward layer.
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    /// Gate, `[d_ff, d_model]`.
    pub w1: Linear,
    /// Down, `[d_model, d_ff]`.
    pub w2: Linear,
    /// Up, `[d_ff, d_model]`.
    pub w3: Linear,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    input: Tensor,
    gate: Tensor,
    up: Tensor,
    hidden: Tensor,
}

impl Mlp {
    /// Maps the normed input `x` `[rows, d_model]`, an operand, and adds the result to `residual`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> (Tensor, Saved) {
        let gate = self.w1.forward_rows(pass, x);
        let (up, hidden) = self.w3.forward_gated(pass, x, gate);
        let y = self.w2.forward_residual(pass, hidden, residual);
        (
            y,
            Saved {
                input: x,
                gate,
                up,
                hidden,
            },
        )
    }

    /// Gradient for the normed input from that of the residual stream.
    pub fn backward(&self, pass: &mut Pass<'_>, saved: Saved, d_y: Tensor) -> Tensor {
        let accumulate = pass.accumulates();
        let Saved {
            input,
            gate,
            up,
            hidden,
        } = saved;
        let d_y = pass.operand(d_y);
        self.w2.backward_weight(pass, hidden, d_y, accumulate);
        let (d_gate, d_up) = self.w2.backward_gated(pass, d_y, gate, up);
        let d_x = pass.plan.scratch("d_normed", input.rows, input.cols);
        backward_shared_input(pass, &[(&self.w1, d_gate), (&self.w3, d_up)], d_x);
        self.w1.backward_weight(pass, input, d_gate, accumulate);
        self.w3.backward_weight(pass, input, d_up, accumulate);
        d_x
    }
}
