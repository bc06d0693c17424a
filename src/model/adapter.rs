//! Low-rank adapters beside the weights of linear layers: `y += scale * (x A^T) B^T` (Hu et al. 2021).

use super::Pass;
use super::linear::Linear;
use crate::gpu::Tensor;
use crate::kernels::matmul::Epilogue;
use crate::kernels::scale::scale;
use crate::weights::Adapter;

/// An adapter in a pass, with the columns of the layer's output that it adds to.
struct Placed {
    /// `[rank, in]`.
    down: Linear,
    /// `[out, rank]`.
    up: Linear,
    scale: f32,
    first: usize,
    cols: usize,
}

impl Linear {
    /// Adds to the output `y` `[rows, out]`, of f32, what adapters make of the input `x` `[rows, in]`, an
    /// operand.
    pub(super) fn add_adapters(&self, pass: &mut Pass<'_>, x: Tensor, y: Tensor) {
        for placed in self.placed_adapters(pass) {
            let low = placed.low(pass, x);
            let y = y.columns(placed.first, placed.cols);
            placed.up.push_forward(pass, low, y, Epilogue::Accumulate);
        }
    }

    /// Gradients for the adapters, from the input `x` `[rows, in]` and the output's gradient `d_y` `[rows, out]`,
    /// operands both; and what goes through them is added to the input's gradient `d_x`, if anybody wants it.
    pub(super) fn backward_adapters(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        d_y: Tensor,
        d_x: Option<Tensor>,
    ) {
        let accumulate = pass.accumulates();
        for placed in self.placed_adapters(pass) {
            let d_y = d_y.columns(placed.first, placed.cols);
            // It is cheaper to compute than to keep.
            let low = placed.low(pass, x);
            placed.up.backward_weight(pass, low, d_y, accumulate);
            let d_low = pass.plan.scratch("d_low_rank", low.rows, low.cols);
            placed.up.backward_input(pass, d_y, d_low);
            scale(pass.plan, d_low, placed.scale);
            let d_low = pass.operand(d_low);
            placed.down.backward_weight(pass, x, d_low, accumulate);
            if let Some(d_x) = d_x {
                let added = Epilogue::Accumulate;
                placed.down.push_backward_input(pass, d_low, d_x, added);
            }
        }
    }

    fn placed_adapters(&self, pass: &Pass<'_>) -> Vec<Placed> {
        if self.adapters.is_empty() {
            return Vec::new();
        }
        let firsts = self.firsts(pass);
        let placed = |&(index, adapter): &(usize, Adapter)| Placed {
            down: Linear::of(adapter.a),
            up: Linear::of(adapter.b),
            scale: adapter.scale,
            first: firsts[index],
            cols: pass.weight(adapter.b).iter().map(|part| part.rows).sum(),
        };
        self.adapters.iter().map(placed).collect()
    }
}

impl Placed {
    /// `scale * x A^T`, `[rows, rank]`, an operand.
    fn low(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        let rank = pass.weight(self.down.weights[0])[0].rows;
        let low = pass.plan.scratch("low_rank", x.rows, rank);
        self.down.push_forward(pass, x, low, Epilogue::Store);
        scale(pass.plan, low, self.scale);
        pass.operand(low)
    }
}
