//! Linear layers, `y = x W^T + b` with `W` `[out, in]`: one, or several of the same input as one. Most have no
//! biases.

use std::ops::Range;

use super::Pass;
use crate::gpu::Tensor;
use crate::gpu::tensor::COLUMNS_MULTIPLE;
use crate::kernels::Gradient;
use crate::kernels::bias;
use crate::kernels::half::in_words;
use crate::kernels::matmul::{Epilogue, Form, Product, matmul, matmul_before, takes_any_epilogue};
use crate::kernels::rope::{self, RopeTable};
use crate::kernels::swiglu;
use crate::weights::{Adapter, ParameterId};

/// Linear layers of the same input, whose outputs lie side by side in the rows of one tensor. Where their
/// weights lie one behind the other in memory they make one product.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]` each.
    pub weights: Vec<ParameterId>,
    /// `[out]` each, one a weight; or none at all.
    pub biases: Vec<ParameterId>,
    /// Adapters beside some of the weights, with the weight's place among them.
    pub adapters: Vec<(usize, Adapter)>,
}

/// A matrix that one product takes: some rows of a weight, or several weights that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    /// Column of the output where its own begin.
    pub(super) first: usize,
    /// Its rows: that many columns of the output.
    pub(super) rows: usize,
    /// What it consists of, in order.
    pub(super) parts: Vec<Part>,
}

/// A part of a weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The weight.
    pub(super) weight: ParameterId,
    /// Which of its parts.
    pub(super) number: usize,
    /// Column of the output where its own begin.
    pub(super) first: usize,
}

impl Linear {
    /// The layer of one weight without a bias.
    pub fn of(weight: ParameterId) -> Self {
        Self {
            weights: vec![weight],
            biases: Vec::new(),
            adapters: Vec::new(),
        }
    }

    /// `[rows, in]`, an operand, to a given `[rows, out]`.
    pub fn forward_into(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor) {
        self.push_forward(pass, x, y, Epilogue::Store);
        self.add_to_products(pass, x, y);
    }

    /// `[rows, in]`, an operand, to `[rows, out]` of f32 in any precision.
    pub fn forward_words(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let y = pass
            .plan
            .scratch_rows("projected", x.rows, self.output_cols(pass));
        self.forward_into(pass, x, y);
        y
    }

    /// `[rows, in]`, an operand, to `[rows, out]`, another one.
    pub fn forward(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let y = self.forward_words(pass, x);
        pass.operand(y)
    }

    /// `[rows, in]`, an operand, to `[rows, out]`, added to the residual stream `[rows, out]`.
    pub fn forward_residual(&self, pass: &mut Pass<'_>, x: Tensor, residual: Tensor) -> Tensor {
        let y = pass
            .plan
            .scratch("projected", x.rows, self.output_cols(pass));
        self.push_forward(pass, x, y, Epilogue::Residual(residual));
        self.add_to_products(pass, x, y);
        y
    }

    /// `[rows, in]`, an operand, to `[rows, out]`, another one, with the rotary embedding of the heads before
    /// column `cols`.
    pub fn forward_rotated(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        table: RopeTable,
        cols: usize,
    ) -> Tensor {
        let head_dim = table.angles.cols;
        let whole_heads = |matrix: &Matrix| matrix.first.is_multiple_of(head_dim);
        let can_turn = takes_any_epilogue(x.cols) && self.is_products_alone();
        if can_turn && self.matrices(pass).iter().all(whole_heads) {
            let y = self.output(pass, x);
            let epilogue = Epilogue::Rotate {
                table,
                head_dim,
                cols,
            };
            self.push_forward(pass, x, y, epilogue);
            return y;
        }
        let y = self.forward_words(pass, x);
        self.rotate(pass, table, y, cols);
        pass.operand(y)
    }

    /// Turns the heads before column `cols` of an output `y` in place.
    pub fn rotate(&self, pass: &mut Pass<'_>, table: RopeTable, y: Tensor, cols: usize) {
        let head_dim = table.angles.cols;
        for run in self.runs(pass) {
            let heads = run.end.min(cols).saturating_sub(run.start) / head_dim;
            if heads > 0 {
                let turned = y.columns(run.start, run.len());
                rope::forward(pass.plan, table, turned, heads);
            }
        }
    }

    /// The outputs of a gate's layer and up's side by side, and `silu(gate) * up`, both operands.
    ///
    /// # Panics
    /// If there are not two layers.
    pub fn forward_gated(&self, pass: &mut Pass<'_>, x: Tensor) -> (Tensor, Tensor) {
        let [_, up_first] = self.firsts(pass)[..] else {
            panic!("a gate and up: {self:?}");
        };
        let cols = self.output_cols(pass) - up_first;
        let is_one = self.matrices(pass).len() == 1 && self.is_products_alone();
        if is_one && takes_any_epilogue(x.cols) {
            let gate_up = self.output(pass, x);
            let hidden = pass.scratch_operand_rows("gated", x.rows, cols);
            let epilogue = Epilogue::Gate { hidden, up_first };
            self.push_forward(pass, x, gate_up, epilogue);
            return (gate_up, hidden);
        }
        let gate_up = self.forward_words(pass, x);
        let hidden = pass.plan.scratch_rows("gated", x.rows, cols);
        swiglu::forward_into(pass.plan, gate_up, up_first, hidden);
        (pass.operand(gate_up), pass.operand(hidden))
    }

    /// Gradients for the layer's parameters, and those for a gate and for up, which lie as `gate_up` does, where
    /// the layer's input `x`, an operand, is `silu(gate) * up`.
    pub fn backward_gated(
        &self,
        pass: &mut Pass<'_>,
        (x, d_y): (Tensor, Tensor),
        gate_up: Tensor,
        up_first: usize,
    ) -> Tensor {
        if let [matrix] = &self.matrices(pass)[..]
            && takes_any_epilogue(d_y.cols)
            && self.adapters.is_empty()
        {
            self.backward_weight(pass, x, d_y, pass.accumulates());
            let weight = pass.matrix(matrix);
            let d_gate_up = pass.plan.scratch_like("d_gate_up", gate_up);
            let epilogue = Epilogue::GateBackward { gate_up, up_first };
            matmul(pass.plan, Form::Nn, d_y, weight, d_gate_up, epilogue);
            return d_gate_up;
        }
        let gate_up = in_words(pass.plan, gate_up);
        let cols = gate_up.cols - up_first;
        let d_hidden = pass.plan.scratch_rows("d_hidden", d_y.rows, cols);
        self.backward(pass, x, d_y, Some(d_hidden));
        let d_gate_up = swiglu::backward(pass.plan, gate_up, up_first, d_hidden);
        pass.operand(d_gate_up)
    }

    /// Whether a weight, a bias or an adapter is trained.
    pub fn is_trained(&self, pass: &Pass<'_>) -> bool {
        let own = self.weights.iter().chain(&self.biases).copied();
        let adapters = self
            .adapters
            .iter()
            .flat_map(|(_, adapter)| [adapter.a, adapter.b]);
        own.chain(adapters).any(|id| !pass.gradient(id).is_empty())
    }

    /// Column of the output where that of each layer begins.
    pub fn firsts(&self, pass: &Pass<'_>) -> Vec<usize> {
        let matrices = self.matrices(pass);
        let parts = matrices.iter().flat_map(|matrix| &matrix.parts);
        let begin = parts.filter(|part| part.number == 0);
        begin.map(|part| part.first).collect()
    }

    /// Gradients for the layer's parameters, and that for its input, from the input `x` `[rows, in]` and the
    /// output's gradient `d_y` `[rows, out]`, operands both. That of the input goes to `d_x` `[rows, in]`, if
    /// anybody wants it; the others are whole when the pass's sums are flushed.
    pub fn backward(&self, pass: &mut Pass<'_>, x: Tensor, d_y: Tensor, d_x: Option<Tensor>) {
        self.backward_weight(pass, x, d_y, pass.accumulates());
        if let Some(d_x) = d_x {
            self.backward_input(pass, d_y, d_x);
        }
        self.backward_adapters(pass, x, d_y, d_x);
    }

    /// [`Linear::backward`] with the gradient for the input as a new operand.
    pub fn backward_to_operand(&self, pass: &mut Pass<'_>, x: Tensor, d_y: Tensor) -> Tensor {
        // What adapters add is added in f32.
        let d_x = match self.adapters.is_empty() {
            true => pass.scratch_operand("d_input", d_y.rows, x.cols),
            false => pass.plan.scratch("d_input", d_y.rows, x.cols),
        };
        self.backward(pass, x, d_y, Some(d_x));
        match d_x.is_halves() {
            true => d_x,
            false => pass.operand(d_x),
        }
    }

    /// Gradient for the input, `[rows, in]`, from that of the output, `[rows, out]`: without what adapters add to
    /// it.
    pub fn backward_input(&self, pass: &mut Pass<'_>, d_y: Tensor, d_x: Tensor) {
        self.push_backward_input(pass, d_y, d_x, Epilogue::Store);
    }

    pub(super) fn push_backward_input(
        &self,
        pass: &mut Pass<'_>,
        d_y: Tensor,
        d_x: Tensor,
        mut epilogue: Epilogue,
    ) {
        for matrix in self.matrices(pass) {
            let weight = pass.matrix(&matrix);
            let d_y = d_y.columns(matrix.first, matrix.rows);
            matmul(pass.plan, Form::Nn, d_y, weight, d_x, epilogue);
            epilogue = Epilogue::Accumulate;
        }
    }

    /// Gradient for the weights and biases from the input and the output's gradient; added to what is there
    /// if `accumulate`. It is whole when the pass's sums are flushed.
    pub fn backward_weight(&self, pass: &mut Pass<'_>, x: Tensor, d_y: Tensor, accumulate: bool) {
        let epilogue = if accumulate {
            Epilogue::Accumulate
        } else {
            Epilogue::Store
        };
        for matrix in self.matrices(pass) {
            if let Some(d_weight) = pass.gradient_of(&matrix) {
                let d_y = d_y.columns(matrix.first, matrix.rows);
                let product = Product {
                    form: Form::Tn,
                    a: d_y,
                    b: x,
                    output: d_weight,
                    epilogue,
                };
                matmul_before(pass.plan, product, &mut pass.sums);
            }
        }
        self.backward_biases(pass, d_y, accumulate);
    }

    /// Whether the output is that of the products, with nothing added behind them.
    fn is_products_alone(&self) -> bool {
        self.biases.is_empty() && self.adapters.is_empty()
    }

    fn add_to_products(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor) {
        self.add_adapters(pass, x, y);
        self.add_biases(pass, y);
    }

    fn add_biases(&self, pass: &mut Pass<'_>, y: Tensor) {
        for (first, id) in self.bias_columns(pass) {
            let own = pass.vector(id);
            bias::forward(pass.plan, y, first, own);
        }
    }

    /// Adds up the rows of `d_y`, an operand.
    fn backward_biases(&self, pass: &mut Pass<'_>, d_y: Tensor, accumulate: bool) {
        let columns = self.bias_columns(pass);
        let trained = columns
            .into_iter()
            .filter_map(|(first, id)| Some((first, *pass.gradient(id).first()?)));
        let trained: Vec<(usize, Tensor)> = trained.collect();
        if trained.is_empty() {
            return;
        }
        let d_y = in_words(pass.plan, d_y);
        for (first, tensor) in trained {
            let d_bias = Gradient { tensor, accumulate };
            bias::backward(pass.plan, d_y, first, d_bias, &mut pass.sums);
        }
    }

    /// Column of the output where those of each bias begin.
    fn bias_columns(&self, pass: &Pass<'_>) -> Vec<(usize, ParameterId)> {
        let biases = self.biases.iter().copied();
        if self.biases.is_empty() {
            return Vec::new();
        }
        self.firsts(pass).into_iter().zip(biases).collect()
    }

    /// Each matrix of weights makes some columns of the output.
    pub(super) fn push_forward(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        y: Tensor,
        epilogue: Epilogue,
    ) {
        let matrices = self.matrices(pass);
        for matrix in &matrices {
            let weight = pass.matrix(matrix);
            let (y, epilogue) = if matrices.len() == 1 {
                (y, epilogue)
            } else {
                let (first, rows) = (matrix.first, matrix.rows);
                (y.columns(first, rows), epilogue.columns(first, rows))
            };
            pass.product(x, weight, y, epilogue);
        }
    }

    fn output(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let cols = self.output_cols(pass);
        pass.scratch_operand_rows("projected", x.rows, cols)
    }

    fn output_cols(&self, pass: &Pass<'_>) -> usize {
        let matrices = self.matrices(pass);
        let last = matrices.last().expect("a weight");
        last.first + last.rows
    }

    /// The matrices that its products take. What does not lie right behind the weight before it begins at a
    /// column that can be bound.
    pub(super) fn matrices(&self, pass: &Pass<'_>) -> Vec<Matrix> {
        let mut matrices: Vec<Matrix> = Vec::new();
        let mut whole: Option<Tensor> = None;
        let mut next = 0;
        for &weight in &self.weights {
            for (number, &part) in pass.weight(weight).iter().enumerate() {
                let joined = whole.and_then(|before| pass.join(before, part));
                let can_join = |joined: &Tensor| {
                    number == 0 && self.can_begin(next) && pass.can_bind_rows(*joined, next)
                };
                let joined = joined.filter(can_join);
                if joined.is_none() {
                    if number == 0 {
                        next = next.next_multiple_of(COLUMNS_MULTIPLE);
                    }
                    matrices.push(Matrix {
                        first: next,
                        rows: 0,
                        parts: Vec::new(),
                    });
                }
                let matrix = matrices.last_mut().expect("one was begun");
                matrix.rows += part.rows;
                matrix.parts.push(Part {
                    weight,
                    number,
                    first: next,
                });
                whole = joined.or(Some(part));
                next += part.rows;
            }
        }
        matrices
    }

    /// Whether the output of a weight may begin at column `first`: what adapters add to is bound alone.
    fn can_begin(&self, first: usize) -> bool {
        self.adapters.is_empty() || first.is_multiple_of(COLUMNS_MULTIPLE)
    }

    /// Columns of the output without gaps in between.
    fn runs(&self, pass: &Pass<'_>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for Matrix { first, rows, .. } in self.matrices(pass) {
            match runs.last_mut() {
                Some(run) if run.end == first => run.end += rows,
                _ => runs.push(first..first + rows),
            }
        }
        runs
    }
}
