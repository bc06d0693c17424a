//! A linear layer without bias, `y = x W^T` with `W` `[out, in]`.

use super::{ParameterId, Pass};
use crate::gpu::Tensor;
use crate::kernels::matmul::{Epilogue, Form, matmul};

/// A linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: ParameterId,
}

/// What to do with the gradient for a layer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// It replaces what is in the tensor.
    Store(Tensor),
    /// It is added to what is in the tensor.
    Add(Tensor),
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        self.push_forward(pass, x, Epilogue::Store)
    }

    /// `[rows, in]` to a given `[rows, out]`.
    pub fn forward_into(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor) {
        let weight = pass.weight(self.weight);
        matmul(pass.plan, Form::Nt, x, weight, y, Epilogue::Store);
    }

    /// `[rows, in]` to `[rows, out]`, added to the residual stream `[rows, out]`.
    pub fn forward_residual(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> Tensor {
        self.push_forward(pass, x, Epilogue::Residual(residual))
    }

    fn push_forward(&self, pass: &mut Pass<'_>, x: Tensor, epilogue: Epilogue) -> Tensor {
        let weight = pass.weight(self.weight);
        let y = pass.plan.scratch("projected", x.rows, weight.rows);
        matmul(pass.plan, Form::Nt, x, weight, y, epilogue);
        y
    }

    /// Gradient for the input, `[rows, in]`, from that of the output, `[rows, out]`.
    pub fn backward_input(&self, pass: &mut Pass<'_>, d_y: Tensor, into: Into) {
        let weight = pass.weight(self.weight);
        let (d_x, epilogue) = match into {
            Into::Store(d_x) => (d_x, Epilogue::Store),
            Into::Add(d_x) => (d_x, Epilogue::Accumulate),
        };
        matmul(pass.plan, Form::Nn, d_y, weight, d_x, epilogue);
    }

    /// Gradient for the weight from the input and the output's gradient; added to what is there
    /// if `accumulate`.
    pub fn backward_weight(&self, pass: &mut Pass<'_>, x: Tensor, d_y: Tensor, accumulate: bool) {
        let epilogue = if accumulate {
            Epilogue::Accumulate
        } else {
            Epilogue::Store
        };
        let d_weight = pass.gradient(self.weight);
        matmul(pass.plan, Form::Tn, d_y, x, d_weight, epilogue);
    }
}
