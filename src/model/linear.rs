//! A linear layer without bias, `y = x W^T` with `W` `[out, in]`.

use super::Pass;
use crate::gpu::Tensor;
use crate::kernels::half::in_words;
use crate::kernels::matmul::{Epilogue, Form, matmul, matmul_sum, takes_any_epilogue};
use crate::kernels::rope::{self, RopeTable};
use crate::kernels::swiglu;
use crate::weights::ParameterId;

/// A linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: ParameterId,
}

impl Linear {
    /// `[rows, in]`, an operand, to `[rows, out]`, another one.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let y = self.output(pass, x);
        self.push_forward(pass, x, y, Epilogue::Store);
        y
    }

    /// [`Linear::forward`] into rows that may have gaps between them.
    pub fn forward_rows(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        if pass.is_mixed() {
            return self.forward(pass, x);
        }
        self.forward_words(pass, x)
    }

    /// [`Linear::forward_rows`] of f32 in any precision.
    pub fn forward_words(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let cols = self.output_cols(pass);
        let y = pass.plan.scratch_rows("projected", x.rows, cols);
        self.push_forward(pass, x, y, Epilogue::Store);
        y
    }

    /// `[rows, in]` to a given `[rows, out]`.
    pub fn forward_into(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor) {
        self.push_forward(pass, x, y, Epilogue::Store);
    }

    /// `[rows, in]` to `[rows, out]`, added to the residual stream `[rows, out]`.
    pub fn forward_residual(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> Tensor {
        let y = pass
            .plan
            .scratch("projected", x.rows, self.output_cols(pass));
        self.push_forward(pass, x, y, Epilogue::Residual(residual));
        y
    }

    /// [`Linear::forward`] with the rotary embedding of the output's heads.
    pub fn forward_rotated(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        table: RopeTable,
        head_dim: usize,
    ) -> Tensor {
        if self.takes_any_epilogue(pass) {
            let y = self.output(pass, x);
            self.push_forward(pass, x, y, Epilogue::Rotate { table, head_dim });
            return y;
        }
        let y = pass
            .plan
            .scratch("projected", x.rows, self.output_cols(pass));
        self.push_forward(pass, x, y, Epilogue::Store);
        rope::forward(pass.plan, table, y, y.cols / head_dim);
        pass.operand(y)
    }

    /// The output `up`, and `silu(gate) * up`, for a `gate` that [`Linear::forward_rows`] made.
    pub fn forward_gated(&self, pass: &mut Pass<'_>, x: Tensor, gate: Tensor) -> (Tensor, Tensor) {
        if self.takes_any_epilogue(pass) {
            let up = pass.plan.scratch_like("up", gate);
            let hidden = pass.plan.scratch_like("gated", gate);
            self.push_forward(pass, x, up, Epilogue::Gate { gate, hidden });
            return (up, hidden);
        }
        let gate = in_words(pass.plan, gate);
        let up = pass.plan.scratch_like("up", gate);
        self.push_forward(pass, x, up, Epilogue::Store);
        let hidden = swiglu::forward(pass.plan, gate, up);
        (pass.operand(up), pass.operand(hidden))
    }

    /// Gradients for `gate` and `up` where the layer's input is `silu(gate) * up`.
    pub fn backward_gated(
        &self,
        pass: &mut Pass<'_>,
        d_y: Tensor,
        gate: Tensor,
        up: Tensor,
    ) -> (Tensor, Tensor) {
        if self.takes_any_epilogue(pass) {
            let [d_gate, d_up] = ["d_gate", "d_up"].map(|name| pass.plan.scratch_like(name, gate));
            let weight = pass.matrix(self.weight)[0];
            let epilogue = Epilogue::GateBackward { gate, up, d_up };
            matmul(pass.plan, Form::Nn, d_y, weight, d_gate, epilogue);
            return (d_gate, d_up);
        }
        let [gate, up] = [gate, up].map(|t| in_words(pass.plan, t));
        let d_hidden = pass.plan.scratch_like("d_hidden", gate);
        self.backward_input(pass, d_y, d_hidden);
        let (d_gate, d_up) = swiglu::backward(pass.plan, gate, up, d_hidden);
        (pass.operand(d_gate), pass.operand(d_up))
    }

    /// Whether its products can do more with what they compute than to add it up.
    fn takes_any_epilogue(&self, pass: &Pass<'_>) -> bool {
        match pass.weight(self.weight) {
            [whole] => takes_any_epilogue(whole.rows.max(whole.cols)),
            _ => false,
        }
    }

    fn output(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let cols = self.output_cols(pass);
        pass.scratch_operand("projected", x.rows, cols)
    }

    fn output_cols(&self, pass: &Pass<'_>) -> usize {
        pass.weight(self.weight).iter().map(|part| part.rows).sum()
    }

    /// Each part of the weight makes some columns of the output.
    fn push_forward(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor, epilogue: Epilogue) {
        let parts = pass.matrix(self.weight);
        if let [whole] = parts[..] {
            matmul(pass.plan, Form::Nt, x, whole, y, epilogue);
            return;
        }
        for (part, first) in with_first_rows(&parts) {
            let epilogue = epilogue.columns(first, part.rows);
            let y = y.columns(first, part.rows);
            matmul(pass.plan, Form::Nt, x, part, y, epilogue);
        }
    }

    /// Gradient for the input, `[rows, in]`, from that of the output, `[rows, out]`.
    pub fn backward_input(&self, pass: &mut Pass<'_>, d_y: Tensor, d_x: Tensor) {
        backward_shared_input(pass, &[(self, d_y)], d_x);
    }

    /// Gradient for the weight from the input and the output's gradient; added to what is there
    /// if `accumulate`.
    pub fn backward_weight(&self, pass: &mut Pass<'_>, x: Tensor, d_y: Tensor, accumulate: bool) {
        let epilogue = if accumulate {
            Epilogue::Accumulate
        } else {
            Epilogue::Store
        };
        for (d_part, first) in with_first_rows(pass.gradient(self.weight)) {
            let d_y = d_y.columns(first, d_part.rows);
            matmul(pass.plan, Form::Tn, d_y, x, d_part, epilogue);
        }
    }
}

/// Gradient for an input `[rows, in]` that several layers share, from those of their outputs.
pub fn backward_shared_input(pass: &mut Pass<'_>, layers: &[(&Linear, Tensor)], d_x: Tensor) {
    let mut pairs = Vec::new();
    for &(layer, d_y) in layers {
        let weight = pass.matrix(layer.weight);
        let parts = with_first_rows(&weight);
        pairs.extend(parts.map(|(part, first)| (d_y.columns(first, part.rows), part)));
    }
    matmul_sum(pass.plan, &pairs, d_x);
}

/// Each part of a parameter with the number of its first row.
pub(super) fn with_first_rows(parts: &[Tensor]) -> impl Iterator<Item = (Tensor, usize)> {
    parts.iter().scan(0, |next, part| {
        let first = *next;
        *next += part.rows;
        Some((*part, first))
    })
}
