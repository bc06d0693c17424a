//! Causal self-attention with grouped key and value heads.

use super::Pass;
use super::linear::Linear;
use super::positions::PositionTable;
use crate::gpu::Tensor;
use crate::kernels::attention::{self, AttentionShape, Documents, Qkv};
use crate::kernels::attention_cache::{self, Cache};
use crate::kernels::half::in_words;
use crate::kernels::head_norm::{self, Gains, HeadNormShape};
use crate::weights::ParameterId;

/// The attention half of a block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Queries `[num_heads * head_dim, d_model]`, keys and values, `[num_kv_heads * head_dim, d_model]` each.
    pub qkv_proj: Linear,
    /// What normalises each head of queries and keys, if anything does.
    pub head_norm: Option<HeadNorm>,
    /// `[d_model, num_heads * head_dim]`.
    pub output_proj: Linear,
}

/// RMSNorm of each head of queries and keys.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    /// `[head_dim]`.
    pub query: ParameterId,
    /// `[head_dim]`.
    pub key: ParameterId,
    /// Which heads there are.
    pub shape: HeadNormShape,
    /// Added to the mean square.
    pub eps: f32,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    input: Tensor,
    normed: Option<head_norm::Saved>,
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
        (shape, documents): (AttentionShape, Option<Documents>),
        positions: PositionTable,
    ) -> (Tensor, Saved) {
        let (qkv, normed) = self.project(pass, x, positions);
        let (output, log_sum_exp) = attention::forward(pass.plan, qkv, shape, documents);
        let y = self.output_proj.forward_residual(pass, output, residual);
        (
            y,
            Saved {
                input: x,
                normed,
                attended: attention::Saved {
                    qkv,
                    rotation: positions.rotation(),
                    output,
                    log_sum_exp,
                    documents,
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
        positions: PositionTable,
    ) -> Tensor {
        let qkv = self.qkv(pass, x, positions);
        attention_cache::fill(pass.plan, qkv, cache);
        let (output, _) = attention::forward(pass.plan, qkv, shape, None);
        self.output_proj.forward_residual(pass, output, residual)
    }

    /// [`Attention::forward`] of one new position of each of several sequences, over what `cache` has of
    /// the earlier ones. `positions` are those of each row.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn forward_cached(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        residual: Tensor,
        cache: Cache,
        positions: PositionTable,
    ) -> Tensor {
        let qkv = self.qkv(pass, x, positions);
        let output = attention_cache::attend(pass.plan, qkv, cache);
        self.output_proj.forward_residual(pass, output, residual)
    }

    /// Queries, keys and values of the normed input `x` `[rows, d_model]`, normalised and turned as the model
    /// has it.
    ///
    /// # Panics
    /// If there are not three projections.
    pub fn qkv(&self, pass: &mut Pass<'_>, x: Tensor, positions: PositionTable) -> Qkv {
        self.project(pass, x, positions).0
    }

    fn project(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        positions: PositionTable,
    ) -> (Qkv, Option<head_norm::Saved>) {
        let [_, key_first, value_first] = self.qkv_proj.firsts(pass)[..] else {
            panic!("queries, keys and values: {self:?}");
        };
        let qkv = |tensor| Qkv {
            tensor,
            key_first,
            value_first,
        };
        let proj = &self.qkv_proj;
        match (self.head_norm, positions.rotation()) {
            (None, Some(table)) => (qkv(proj.forward_rotated(pass, x, table, value_first)), None),
            (None, None) => (qkv(proj.forward(pass, x)), None),
            (Some(norm), rotation) => {
                let projected = qkv(proj.forward_words(pass, x));
                let (normed, saved) = norm.forward(pass, projected);
                if let Some(table) = rotation {
                    proj.rotate(pass, table, normed.tensor, value_first);
                }
                (qkv(pass.operand(normed.tensor)), Some(saved))
            }
        }
    }

    /// Whether anything of it is trained.
    pub fn is_trained(&self, pass: &Pass<'_>) -> bool {
        let of_heads = |norm: HeadNorm| {
            let gains = [norm.query, norm.key];
            gains.iter().any(|&id| !pass.gradient(id).is_empty())
        };
        self.qkv_proj.is_trained(pass)
            || self.output_proj.is_trained(pass)
            || self.head_norm.is_some_and(of_heads)
    }

    /// Gradient for the normed input from that of the residual stream, an operand, if it is wanted.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        d_y: Tensor,
        shape: AttentionShape,
        is_wanted: bool,
    ) -> Option<Tensor> {
        let attended = saved.attended;
        let d_output = self
            .output_proj
            .backward_to_operand(pass, attended.output, d_y);
        let mut d_qkv = attention::backward(pass.plan, attended, d_output, shape).tensor;
        if let (Some(norm), Some(saved)) = (self.head_norm, saved.normed) {
            d_qkv = norm.backward(pass, saved, d_qkv);
        }
        let input = saved.input;
        let d_x = is_wanted.then(|| pass.plan.scratch("d_normed", input.rows, input.cols));
        self.qkv_proj.backward(pass, input, d_qkv, d_x);
        d_x
    }
}

impl HeadNorm {
    fn gains(&self, pass: &Pass<'_>) -> Gains {
        Gains {
            query: pass.vector(self.query),
            key: pass.vector(self.key),
        }
    }

    fn forward(&self, pass: &mut Pass<'_>, projected: Qkv) -> (Qkv, head_norm::Saved) {
        let gains = self.gains(pass);
        head_norm::forward(pass.plan, projected, self.shape, gains, self.eps)
    }

    /// The gradient of the projections from that of the normed ones, operands both.
    fn backward(&self, pass: &mut Pass<'_>, saved: head_norm::Saved, d_normed: Tensor) -> Tensor {
        let gains = self.gains(pass);
        let d_normed = in_words(pass.plan, d_normed);
        let gradients = head_norm::Gradients {
            d_normed,
            d_query_gain: pass.vector_gradient(self.query),
            d_key_gain: pass.vector_gradient(self.key),
        };
        head_norm::backward(pass.plan, saved, gains, gradients, &mut pass.sums);
        pass.operand(d_normed)
    }
}
