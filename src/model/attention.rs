//! Causal self-attention with rotary positions and grouped key and value heads.

use super::Pass;
use super::linear::{Linear, backward_shared_input};
use crate::gpu::Tensor;
use crate::kernels::attention::{self, AttentionShape, Qkv};
use crate::kernels::rope::RopeTable;

/// The attention half of a block.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// `[d_model, d_model]`.
    pub q_proj: Linear,
    /// `[num_kv_heads * head_dim, d_model]`.
    pub k_proj: Linear,
    /// `[num_kv_heads * head_dim, d_model]`.
    pub v_proj: Linear,
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
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        residual: Tensor,
        shape: AttentionShape,
        table: RopeTable,
    ) -> (Tensor, Saved) {
        let query = self.q_proj.forward_rotated(pass, x, table, shape.head_dim);
        let key = self.k_proj.forward_rotated(pass, x, table, shape.head_dim);
        let value = self.v_proj.forward(pass, x);
        let qkv = Qkv { query, key, value };
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

    /// Gradient for the normed input from that of the residual stream.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        d_y: Tensor,
        shape: AttentionShape,
    ) -> Tensor {
        let accumulate = pass.accumulates();
        let attended = saved.attended;
        let d_y = pass.operand(d_y);
        self.output_proj
            .backward_weight(pass, attended.output, d_y, accumulate);
        let d_output = pass.scratch_operand("d_attended", d_y.rows, d_y.cols);
        self.output_proj.backward_input(pass, d_y, d_output);
        let d = attention::backward(pass.plan, attended, d_output, shape);
        let d_x = pass
            .plan
            .scratch("d_normed", saved.input.rows, saved.input.cols);
        let projections = [
            (&self.q_proj, d.query),
            (&self.k_proj, d.key),
            (&self.v_proj, d.value),
        ];
        backward_shared_input(pass, &projections, d_x);
        self.q_proj
            .backward_weight(pass, saved.input, d.query, accumulate);
        self.k_proj
            .backward_weight(pass, saved.input, d.key, accumulate);
        self.v_proj
            .backward_weight(pass, saved.input, d.value, accumulate);
        d_x
    }
}
