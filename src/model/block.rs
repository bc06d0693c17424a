//! A pre-norm block: `x += attn(ln1(x)); x += ffn(ln2(x))`.

use super::Pass;
use super::attention::{self, Attention, HeadNorm};
use super::linear::Linear;
use super::mlp::{self, Mlp};
use super::norm::{self, Norm};
use super::positions::PositionTable;
use crate::config::{Activation, ModelConfig};
use crate::gpu::Tensor;
use crate::kernels::attention::{AttentionShape, Documents, Qkv};
use crate::kernels::attention_cache::Cache;
use crate::kernels::head_norm::HeadNormShape;
use crate::weights::ParameterTable;

/// One layer of the decoder.
#[derive(Clone, Debug)]
pub struct Block {
    scope: String,
    ln1: Norm,
    attn: Attention,
    ln2: Norm,
    ffn: Mlp,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    ln1: norm::Saved,
    attn: attention::Saved,
    ln2: norm::Saved,
    ffn: mlp::Saved,
}

impl Block {
    /// Layer `index` of the model of `config`, whose parameters `table` holds.
    pub fn new(config: &ModelConfig, table: &ParameterTable, index: usize) -> Self {
        let scope = format!("layers.{index}");
        let architecture = &config.architecture;
        let weight = |name: &str| table.id(&format!("{scope}.{name}.weight"));
        let bias = |name: &str| table.id(&format!("{scope}.{name}.bias"));
        let linear = |names: &[&str]| Linear {
            weights: names.iter().map(|name| weight(name)).collect(),
            biases: match architecture.biases {
                true => names.iter().map(|name| bias(name)).collect(),
                false => Vec::new(),
            },
            adapters: {
                let adapters = names.iter().map(|name| table.adapter(weight(name)));
                let numbered = adapters.enumerate();
                numbered
                    .filter_map(|(i, adapter)| Some((i, adapter?)))
                    .collect()
            },
        };
        let norm = |name: &str| Norm::new(config, table, &format!("{scope}.{name}"));
        #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
        let head_norm = architecture.qk_norm.then(|| HeadNorm {
            query: weight("attn.q_norm"),
            key: weight("attn.k_norm"),
            shape: HeadNormShape {
                num_heads: config.num_heads,
                num_kv_heads: config.num_kv_heads,
                head_dim: config.head_dim(),
            },
            eps: config.norm_eps as f32,
        });
        Self {
            ln1: norm("ln1"),
            attn: Attention {
                qkv_proj: linear(&["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
                head_norm,
                output_proj: linear(&["attn.output_proj"]),
            },
            ln2: norm("ln2"),
            ffn: Mlp {
                activation: architecture.activation,
                up: match architecture.activation {
                    Activation::Swiglu => linear(&["ffn.w1", "ffn.w3"]),
                    Activation::Gelu => linear(&["ffn.w1"]),
                },
                down: linear(&["ffn.w2"]),
            },
            scope,
        }
    }

    /// Maps the residual stream `x` `[rows, d_model]` to the next one.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        attended: (AttentionShape, Option<Documents>),
        positions: PositionTable,
    ) -> (Tensor, Saved) {
        pass.plan.set_scope(format!("{}.attn", self.scope));
        let (normed, ln1) = self.ln1.forward(pass, x);
        let (x, attn) = self.attn.forward(pass, normed, x, attended, positions);
        pass.plan.set_scope(format!("{}.ffn", self.scope));
        let (normed, ln2) = self.ln2.forward(pass, x);
        let (x, ffn) = self.ffn.forward(pass, normed, x);
        (
            x,
            Saved {
                ln1,
                attn,
                ln2,
                ffn,
            },
        )
    }

    /// [`Block::forward`] of one sequence, whose keys and values `cache` keeps.
    pub fn forward_keeping(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        (shape, cache): (AttentionShape, Cache),
        positions: PositionTable,
    ) -> Tensor {
        pass.plan.set_scope(format!("{}.attn", self.scope));
        let (normed, _) = self.ln1.forward(pass, x);
        let attn = &self.attn;
        let x = attn.forward_keeping(pass, normed, x, (shape, cache), positions);
        self.forward_ffn(pass, x)
    }

    /// [`Block::forward`] of one new position of each of several sequences, over what `cache` has of the
    /// earlier ones.
    pub fn forward_cached(
        &self,
        pass: &mut Pass<'_>,
        x: Tensor,
        cache: Cache,
        positions: PositionTable,
    ) -> Tensor {
        pass.plan.set_scope(format!("{}.attn", self.scope));
        let (normed, _) = self.ln1.forward(pass, x);
        let x = self.attn.forward_cached(pass, normed, x, cache, positions);
        self.forward_ffn(pass, x)
    }

    /// Queries, keys and values that the residual stream `x` `[rows, d_model]` leads to.
    pub fn qkv(&self, pass: &mut Pass<'_>, x: Tensor, positions: PositionTable) -> Qkv {
        pass.plan.set_scope(format!("{}.attn", self.scope));
        let (normed, _) = self.ln1.forward(pass, x);
        self.attn.qkv(pass, normed, positions)
    }

    fn forward_ffn(&self, pass: &mut Pass<'_>, x: Tensor) -> Tensor {
        pass.plan.set_scope(format!("{}.ffn", self.scope));
        let (normed, _) = self.ln2.forward(pass, x);
        self.ffn.forward(pass, normed, x).0
    }

    /// Whether anything of it is trained.
    pub fn is_trained(&self, pass: &Pass<'_>) -> bool {
        self.ln1.is_trained(pass)
            || self.attn.is_trained(pass)
            || self.ln2.is_trained(pass)
            || self.linears().iter().any(|linear| linear.is_trained(pass))
    }

    /// Turns `d_x`, the gradient of the block's output, into that of its input, in place: each
    /// half adds its own share to the residual stream's. Takes and returns it as an operand too. Where nothing
    /// below the block is trained (`is_lowest`), what only that would take is left out.
    pub fn backward(
        &self,
        pass: &mut Pass<'_>,
        saved: Saved,
        (d_x, d_operand): (Tensor, Tensor),
        shape: AttentionShape,
        is_lowest: bool,
    ) -> Tensor {
        pass.plan.set_scope(format!("{}.ffn", self.scope));
        let d_normed = self.ffn.backward(pass, saved.ffn, d_operand);
        let mut d_operand = self.ln2.backward(pass, saved.ln2, d_normed, d_x, true);
        let is_ln1_wanted = !is_lowest || self.ln1.is_trained(pass);
        if is_ln1_wanted || self.attn.is_trained(pass) {
            pass.plan.set_scope(format!("{}.attn", self.scope));
            let attn = &self.attn;
            let d_normed = attn.backward(pass, saved.attn, d_operand, shape, is_ln1_wanted);
            if let Some(d_normed) = d_normed {
                d_operand = self.ln1.backward(pass, saved.ln1, d_normed, d_x, true);
            }
        }
        pass.sums.flush(pass.plan);
        d_operand
    }

    /// The layers whose weights make matrices.
    pub fn linears(&self) -> [&Linear; 4] {
        [
            &self.attn.qkv_proj,
            &self.attn.output_proj,
            &self.ffn.up,
            &self.ffn.down,
        ]
    }
}
