//! What layers push to while a pass is built: the plan, the weights, and where gradients go.

use std::collections::HashMap;

use crate::config::Precision;
use crate::gpu::{Plan, Tensor};
use crate::kernels::half::halve;
use crate::weights::ParameterId;

/// One forward or forward-and-backward pass under construction.
pub struct Pass<'a> {
    /// The plan that dispatches go to.
    pub plan: &'a mut Plan,
    weights: &'a [Vec<Tensor>],
    gradients: &'a [Vec<Tensor>],
    accumulate: bool,
    precision: Precision,
    /// Weights as operands, in the parts that were asked for.
    halved: HashMap<usize, Vec<Tensor>>,
}

impl<'a> Pass<'a> {
    /// A pass over bound `weights`, in the order of the parameter table. `gradients` is empty
    /// where there is no backward pass; `accumulate` adds to what they hold.
    pub fn new(
        plan: &'a mut Plan,
        weights: &'a [Vec<Tensor>],
        gradients: &'a [Vec<Tensor>],
        accumulate: bool,
        precision: Precision,
    ) -> Self {
        Self {
            plan,
            weights,
            gradients,
            accumulate,
            precision,
            halved: HashMap::new(),
        }
    }

    /// Whether products take halves.
    pub fn is_mixed(&self) -> bool {
        self.precision == Precision::Mixed
    }

    /// `tensor` as products take it: itself, or its halves.
    pub fn operand(&mut self, tensor: Tensor) -> Tensor {
        match self.precision {
            Precision::F32 => tensor,
            Precision::Mixed => halve(self.plan, tensor, None),
        }
    }

    /// A new tensor of `[rows, cols]` that products read.
    pub fn scratch_operand(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        match self.precision {
            Precision::F32 => self.plan.scratch(label, rows, cols),
            Precision::Mixed => self.plan.scratch_halves(label, rows, cols),
        }
    }

    /// The values of a matrix as products take them, some rows in each part; halves are made once a pass.
    pub fn matrix(&mut self, id: ParameterId) -> Vec<Tensor> {
        let parts = self.weight(id);
        match self.precision {
            Precision::F32 => parts.to_vec(),
            Precision::Mixed => {
                let mut halve = |part: &Tensor| halve(self.plan, *part, None);
                let halved = self.halved.entry(id.index());
                let made = halved.or_insert_with(|| parts.iter().map(&mut halve).collect());
                made.clone()
            }
        }
    }

    /// The values of a parameter, some rows in each part.
    pub fn weight(&self, id: ParameterId) -> &'a [Tensor] {
        &self.weights[id.index()]
    }

    /// Where the gradient of a parameter goes, in parts of the same rows; nowhere for one that stays as
    /// it is.
    ///
    /// # Panics
    /// In a pass without gradients.
    pub fn gradient(&self, id: ParameterId) -> &'a [Tensor] {
        &self.gradients[id.index()]
    }

    /// Whether a gradient's first contribution is added to what is there, as in every micro-batch
    /// of a step but the first.
    pub fn accumulates(&self) -> bool {
        self.accumulate
    }
}
