//! Causal self-attention with rotary positions and grouped key and value heads.

use super::Pass;
use super::linear::Linear;
use crate::gpu::Tensor;
use crate::kernels::attention::{self, AttentionShape, Qkv};
use crate::kernels::attention_cache::{self, Cache};
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
        let qkv = self.qkv(pass, x, table);
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

    /// [`Attention::forward`] of one sequence, whose keys and values `cache` keeps.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn forward_keeping(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        residual: Tensor,
        (shape, cache): (AttentionShape, Cache),
        table: RopeTable,
    ) -> Tensor {
        let qkv = self.qkv(pass, x, table);
        attention_cache::fill(pass.plan, qkv, cache);
        let (output, _) = attention::forward(pass.plan, qkv, shape);
        self.output_proj.forward_residual(pass, output, residual)
    }

    /// [`Attention::forward`] of one new position of each of several sequences, over what `cache` has of
    /// the earlier ones. `table` holds the angles of each row.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn forward_cached(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        residual: Tensor,
        cache: Cache,
        table: RopeTable,
    ) -> Tensor {
        let qkv = self.qkv(pass, x, table);
        let output = attention_cache::attend(pass.plan, qkv, cache);
        self.output_proj.forward_residual(pass, output, residual)
    }

    /// Queries, keys and values of the normed input `x` `[rows, d_model]`, rotated by `table`.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn qkv(&self, pass: &mut Pass<'_>, x: Tensor, table: RopeTable) -> Qkv {
        let [_, key_first, value_first] = self.qkv_proj.firsts(pass)[..] else {
            panic!("queries, keys and values: {self:?}");
        };
        Qkv {
            tensor: self.qkv_proj.forward_rotated(pass, x, table, value_first),
            key_first,
            value_first,
        }
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
