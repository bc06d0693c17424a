//! What layers push to while a pass is built: the plan, the weights, and where gradients go.

use crate::gpu::{Plan, Tensor};
use crate::weights::ParameterId;

/// One forward or forward-and-backward pass under construction.
pub struct Pass<'a> {
    /// The plan that dispatches go to.
    pub plan: &'a mut Plan,
    weights: &'a [Vec<Tensor>],
    gradients: &'a [Vec<Tensor>],
    accumulate: bool,
}

impl<'a> Pass<'a> {
    /// A pass over bound `weights`, in the order of the parameter table. `gradients` is empty
    /// where there is no backward pass; `accumulate` adds to what they hold.
    pub fn new(
        plan: &'a mut Plan,
        weights: &'a [Vec<Tensor>],
        gradients: &'a [Vec<Tensor>],
        accumulate: bool,
    ) -> Self {
        Self {
            plan,
            weights,
            gradients,
            accumulate,
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
