//! Causal self-attention with rotary positions and grouped key and value heads.

use super::Pass;
use super::linear::Linear;
use crate::gpu::Tensor;
use crate::kernels::attention::{self, AttentionShape, Qkv};
use crate::kernels::rope::RopeTable;

/// The attention half of a block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Queries `[d_model, d_model]`, keys and values, `[num_kv_heads * head_dim, d_model]` each.
    pub qkv_proj: Linear,
    /// `[d_model, d_model]`.
    pub output_proj: Linear,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    input: Tensor,
    attended: attention::Saved,
}

impl Attention {
    /// Attends over the normed input `x` `[rows, d_model]`, an operand, and adds the result to `residual`.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        residual: Tensor,
        shape: AttentionShape,
        table: RopeTable,
    ) -> (Tensor, Saved) {
        let [_, key_first, value_first] = self.qkv_proj.firsts(pass)[..] else {
            panic!("queries, keys and values: {self:?}");
        };
        let qkv = Qkv {
            tensor: self.qkv_proj.forward_rotated(pass, x, table, value_first),
            key_first,
            value_first,
        };
        let (output, log_sum_exp) = attention::forward(pass.plan, qkv, shape);
        let y = self.output_proj.forward_residual(pass, output, residual);
        (
            y,
            Saved {
                input: x,
                attended: attention::Saved {
                    qkv,
                    rotation: Some(table),
                    output,
                    log_sum_exp,
                },
            },
        )
    }

    /// Gradient for the normed input from that of the residual stream, an operand.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        d_y: Tensor,
        shape: AttentionShape,
    ) -> Tensor {
        let accumulate = pass.accumulates();
        let attended = saved.attended;
        self.output_proj
            .backward_weight(pass, attended.output, d_y, accumulate);
        let d_output = pass.scratch_operand("d_attended", d_y.rows, d_y.cols);
        self.output_proj.backward_input(pass, d_y, d_output);
        let d_qkv = attention::backward(pass.plan, attended, d_output, shape).tensor;
        let d_x = pass
            .plan
            .scratch("d_normed", saved.input.rows, saved.input.cols);
        self.qkv_proj.backward_input(pass, d_qkv, d_x);
        self.qkv_proj
            .backward_weight(pass, saved.input, d_qkv, accumulate);
        d_x
    }
}
