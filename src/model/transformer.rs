//! The decoder: embedding, blocks, final norm, and the language-model head with its loss.

use std::ops::Range;

use super::Pass;
use super::block::{self, Block};
use super::inputs::{BatchShape, Inputs};
use super::linear::Linear;
use super::norm::{self, Norm};
use super::positions::PositionTable;
use crate::config::{ModelConfig, Positions};
use crate::gpu::{AdapterClass, Target, Tensor};
use crate::kernels::Gradient;
use crate::kernels::attention::{AttentionShape, Documents, Qkv};
use crate::kernels::attention_cache::Cache;
use crate::kernels::cross_entropy::Halved;
use crate::kernels::{bias, cross_entropy, embedding, logprobs};
use crate::weights::{ParameterId, ParameterTable};

/// A decoder for one model shape.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    embedding: ParameterId,
    /// Vectors of positions, `[context_length, d_model]`.
    position_embeddings: Option<ParameterId>,
    blocks: Vec<Block>,
    ln_final: Norm,
    lm_head: Linear,
    /// Words of weights, gradients and both moments.
    parameter_words: usize,
}

/// The forward pass up to the final norm, with what backward needs.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The residual stream behind the last block, `[rows, d_model]`.
    pub residual: Tensor,
    blocks: Vec<Kept>,
}

/// What the forward pass of a block leaves for its backward pass.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one a block, while a plan is built"
)]
enum Kept {
    /// Everything that it needs.
    All(block::Saved),
    /// The block's input, from which it runs once more (Chen et al. 2016).
    Input(Tensor),
}

/// What a pass does besides reading its inputs.
#[derive(Clone, Copy, Debug)]
pub struct PassShape {
    /// Sequences and their length.
    pub batch: BatchShape,
    /// Positions `0..time`.
    pub positions: PositionTable,
    /// What keeps documents of a row apart, if anything does.
    pub documents: Option<Documents>,
    /// Whether only the blocks' inputs are kept for the backward pass.
    pub activation_checkpointing: bool,
}

/// Where the loss goes.
#[derive(Clone, Copy, Debug)]
pub struct LossTarget {
    /// `[1]`: receives the sum of losses times `scale`.
    pub total: Tensor,
    /// `[1]`: one over the number of targets that the mean is over.
    pub scale: Tensor,
    /// Whether the sum is added to what `total` holds.
    pub accumulate: bool,
    /// `[1]`: what every gradient is multiplied with, where products take halves.
    pub gradient_factor: Option<Tensor>,
}

impl Transformer {
    /// The model of `config`, whose parameters `table` holds.
    pub fn new(config: &ModelConfig, table: &ParameterTable) -> Self {
        let head = if config.tie_embeddings {
            "token_embeddings.weight"
        } else {
            "lm_head.weight"
        };
        Self {
            config: config.clone(),
            embedding: table.id("token_embeddings.weight"),
            position_embeddings: (config.architecture.positions == Positions::Learned)
                .then(|| table.id("position_embeddings.weight")),
            blocks: (0..config.num_layers)
                .map(|i| Block::new(config, table, i))
                .collect(),
            ln_final: Norm::new(config, table, "ln_final"),
            lm_head: Linear::of(table.id(head)),
            parameter_words: table.device_words(),
        }
    }

    fn attention_shape(&self, batch: BatchShape) -> AttentionShape {
        AttentionShape {
            batch: batch.batch,
            query_rows: batch.time,
            key_rows: batch.time,
            num_heads: self.config.num_heads,
            num_kv_heads: self.config.num_kv_heads,
            head_dim: self.config.head_dim(),
        }
    }

    /// Maps `tokens` `[rows]` to the residual stream behind the last block.
    pub fn forward(&self, pass: &mut Pass<'_>, tokens: Tensor, shape: &PassShape) -> Forward {
        if pass.is_mixed() {
            pass.plan.set_scope("weights");
            let linears = self.blocks.iter().flat_map(Block::linears);
            let mut matrices: Vec<_> = linears.flat_map(|l| l.matrices(pass)).collect();
            // The halves live until their last use; a large head's are better made where they are read.
            if self.config.vocab_size * self.config.d_model <= SMALL_HEAD {
                matrices.extend(self.lm_head.matrices(pass));
            }
            pass.halve_matrices(&matrices);
        }
        let mut x = self.embed(pass, tokens, shape.positions);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let attended = (self.attention_shape(shape.batch), shape.documents);
            let (next, saved) = block.forward(pass, x, attended, shape.positions);
            blocks.push(if shape.activation_checkpointing {
                Kept::Input(x)
            } else {
                Kept::All(saved)
            });
            x = next;
        }
        Forward {
            residual: x,
            blocks,
        }
    }

    /// [`Transformer::forward`] of one sequence, whose keys and values `caches` keep, one a layer: the
    /// residual stream behind the last block.
    pub fn forward_keeping(
        &self,
        pass: &mut Pass<'_>,
        tokens: Tensor,
        shape: &PassShape,
        caches: &[Cache],
    ) -> Tensor {
        let attention_shape = self.attention_shape(shape.batch);
        let mut x = self.embed(pass, tokens, shape.positions);
        for (block, &cache) in self.blocks.iter().zip(caches) {
            x = block.forward_keeping(pass, x, (attention_shape, cache), shape.positions);
        }
        x
    }

    /// The residual stream behind the last block, `[rows, d_model]`, of one new position of each of several
    /// sequences, over what `caches` have of the earlier ones. `positions` are those of each row.
    pub fn forward_cached(
        &self,
        pass: &mut Pass<'_>,
        tokens: Tensor,
        positions: PositionTable,
        caches: &[Cache],
    ) -> Tensor {
        let mut x = self.embed(pass, tokens, positions);
        for (block, &cache) in self.blocks.iter().zip(caches) {
            x = block.forward_cached(pass, x, cache, positions);
        }
        x
    }

    /// Queries, keys and values of one layer, for one sequence.
    ///
    /// # Panics
    /// If there is no such layer: a bug of the caller.
    pub fn qkv(&self, pass: &mut Pass<'_>, tokens: Tensor, shape: &PassShape, layer: usize) -> Qkv {
        let attention_shape = self.attention_shape(shape.batch);
        let mut x = self.embed(pass, tokens, shape.positions);
        for block in &self.blocks[..layer] {
            x = block
                .forward(pass, x, (attention_shape, None), shape.positions)
                .0;
        }
        self.blocks[layer].qkv(pass, x, shape.positions)
    }

    fn embed(&self, pass: &mut Pass<'_>, tokens: Tensor, positions: PositionTable) -> Tensor {
        pass.plan.set_scope("token_embeddings");
        let weight = pass.weight(self.embedding);
        let x = embedding::forward(pass.plan, weight, tokens);
        if let (Some(vectors), PositionTable::Learned(numbers)) =
            (self.position_embeddings, positions)
        {
            pass.plan.set_scope("position_embeddings");
            let vectors = embedding::forward(pass.plan, pass.weight(vectors), numbers);
            bias::forward(pass.plan, x, 0, vectors);
        }
        x
    }

    fn is_embedding_trained(&self, pass: &Pass<'_>) -> bool {
        let ids = [Some(self.embedding), self.position_embeddings];
        let mut ids = ids.into_iter().flatten();
        ids.any(|id| !pass.gradient(id).is_empty())
    }

    /// Adds up `d_x` `[rows, d_model]` over the sequences of a batch.
    ///
    /// # Panics
    /// If the vectors are more than a binding may cover.
    fn positions_backward(&self, pass: &mut Pass<'_>, d_x: Tensor, time: usize, inputs: &Inputs) {
        let Some(id) = self.position_embeddings else {
            return;
        };
        pass.plan.set_scope("position_embeddings");
        match (pass.gradient(id), &inputs.positions) {
            ([], _) => {}
            // Several rows may have the same position.
            (d_vectors, Some((_, segments))) => {
                let accumulate = pass.accumulates();
                embedding::backward(pass.plan, d_x, segments, d_vectors, accumulate);
            }
            // Positions that no batch reaches keep a gradient of zero.
            (&[whole], None) => {
                let d_vectors = Gradient {
                    tensor: whole.slice_rows(0, time),
                    accumulate: pass.accumulates(),
                };
                bias::backward(pass.plan, d_x, 0, d_vectors, &mut pass.sums);
                pass.sums.flush(pass.plan);
            }
            (parts, None) => panic!("vectors of positions in parts: {parts:?}"),
        }
    }

    /// The layers whose weights make matrices, the head's last.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let blocks = self.blocks.iter().flat_map(Block::linears);
        blocks.chain([&self.lm_head])
    }

    /// What the head takes of the `residual` stream `[rows, d_model]`, an operand.
    fn normed(&self, pass: &mut Pass<'_>, residual: Tensor) -> (Tensor, norm::Saved) {
        pass.plan.set_scope("ln_final");
        let normed = self.ln_final.forward(pass, residual);
        pass.plan.set_scope("lm_head");
        normed
    }

    /// Writes the logits of the `residual` stream `[rows, d_model]` to `logits` `[rows, vocab]`.
    pub fn logits_into(&self, pass: &mut Pass<'_>, residual: Tensor, logits: Tensor) {
        self.logits_in_parts(pass, residual, &[logits]);
    }

    /// [`Transformer::logits_into`] of parts of some rows each, which follow each other; all but the last have
    /// a multiple of 64.
    pub fn logits_in_parts(&self, pass: &mut Pass<'_>, residual: Tensor, parts: &[Tensor]) {
        let (hidden, _) = self.normed(pass, residual);
        let mut first = 0;
        for &part in parts {
            let rows = hidden.slice_rows(first, part.rows);
            self.lm_head.forward_into(pass, rows, part);
            first += part.rows;
        }
    }

    /// Pushes what `consume` makes of the logits of the `residual` stream, a chunk of rows at a time: it is
    /// given the rows and their logits, which it may overwrite.
    fn each_logits(
        &self,
        pass: &mut Pass<'_>,
        residual: Tensor,
        mut consume: impl FnMut(&mut Pass<'_>, Range<usize>, Tensor),
    ) {
        let (hidden, _) = self.normed(pass, residual);
        for (first, rows) in self.chunks(pass.plan.target(), hidden.rows) {
            let hidden = hidden.slice_rows(first, rows);
            let logits = self.lm_head.forward_words(pass, hidden);
            consume(pass, first..first + rows, logits);
        }
    }

    /// The loss alone, with logits in chunks of rows.
    pub fn loss(&self, pass: &mut Pass<'_>, residual: Tensor, targets: Tensor, loss: LossTarget) {
        let losses = pass.plan.scratch("losses", 1, residual.rows);
        self.each_logits(pass, residual, |pass, rows, logits| {
            let chunk = losses.slice(rows.start, rows.len());
            let targets = targets.slice(rows.start, rows.len());
            cross_entropy::forward(pass.plan, logits, targets, chunk, None, None);
        });
        cross_entropy::loss_sum(pass.plan, losses, loss.total, loss.scale, loss.accumulate);
    }

    /// For each row of `residual` `[rows, d_model]` the log-probability of its token in `tokens` `[rows]`
    /// and the `top` likeliest ones, as [`logprobs::token_logprobs`] writes them to `output`, with logits
    /// in chunks of rows.
    pub fn logprobs(
        &self,
        pass: &mut Pass<'_>,
        residual: Tensor,
        tokens: Tensor,
        top: usize,
        output: Tensor,
    ) {
        self.each_logits(pass, residual, |pass, rows, logits| {
            let tokens = tokens.slice(rows.start, rows.len());
            let output = output.slice_rows(rows.start, rows.len());
            logprobs::token_logprobs(pass.plan, logits, tokens, top, output);
        });
    }

    /// The loss and every gradient.
    pub fn loss_and_backward(
        &self,
        pass: &mut Pass<'_>,
        inputs: &Inputs,
        forward: &Forward,
        shape: &PassShape,
        loss: LossTarget,
    ) {
        let (hidden, ln_final) = self.normed(pass, forward.residual);
        let d_hidden = self.head_backward(pass, inputs, hidden, loss);
        pass.plan.set_scope("ln_final");
        let d_x = pass
            .plan
            .scratch("d_residual", d_hidden.rows, d_hidden.cols);
        let mut d_operand = self.ln_final.backward(pass, ln_final, d_hidden, d_x, false);
        pass.sums.flush(pass.plan);
        let attention_shape = self.attention_shape(shape.batch);
        // Nothing below the lowest parameter that is trained takes a gradient.
        let is_embedding_trained = self.is_embedding_trained(pass);
        let lowest = match is_embedding_trained {
            true => Some(0),
            false => self.blocks.iter().position(|block| block.is_trained(pass)),
        };
        let Some(lowest) = lowest else { return };
        let blocks = self.blocks.iter().zip(&forward.blocks).enumerate();
        for (index, (block, kept)) in blocks.skip(lowest).rev() {
            let is_lowest = index == lowest && !is_embedding_trained;
            let saved = match *kept {
                Kept::All(saved) => saved,
                Kept::Input(x) => {
                    // Else the first pass's copies of weights would live until here.
                    pass.plan.forget_staged();
                    let attended = (attention_shape, shape.documents);
                    block.forward(pass, x, attended, shape.positions).1
                }
            };
            let gradients = (d_x, d_operand);
            d_operand = block.backward(pass, saved, gradients, attention_shape, is_lowest);
        }
        self.positions_backward(pass, d_x, shape.batch.time, inputs);
        pass.plan.set_scope("token_embeddings");
        // A tied embedding already holds the head's gradient.
        let accumulate = pass.accumulates() || self.config.tie_embeddings;
        let d_weight = pass.gradient(self.embedding);
        if !d_weight.is_empty() {
            embedding::backward(pass.plan, d_x, &inputs.segments, d_weight, accumulate);
        }
    }

    /// Loss, gradient of the head's weight, and gradient of its input, chunk by chunk: a chunk's
    /// logits turn into their gradient in place and are done with before the next chunk.
    fn head_backward(
        &self,
        pass: &mut Pass<'_>,
        inputs: &Inputs,
        hidden: Tensor,
        loss: LossTarget,
    ) -> Tensor {
        let d_hidden = pass.plan.scratch("d_hidden", hidden.rows, hidden.cols);
        let losses = pass.plan.scratch("losses", 1, hidden.rows);
        for (first, rows) in self.chunks(pass.plan.target(), hidden.rows) {
            let x = hidden.slice_rows(first, rows);
            let logits = self.lm_head.forward_words(pass, x);
            let targets = inputs.targets.slice(first, rows);
            let chunk = losses.slice(first, rows);
            let halved = loss.gradient_factor.map(|factor| Halved {
                gradient: pass.plan.scratch_halves("d_logits", rows, logits.cols),
                factor,
            });
            cross_entropy::forward(pass.plan, logits, targets, chunk, Some(loss.scale), halved);
            let d_logits = halved.map_or(logits, |halved| halved.gradient);
            let d_x = d_hidden.slice_rows(first, rows);
            self.lm_head.backward_input(pass, d_logits, d_x);
            let accumulate = pass.accumulates() || first > 0;
            self.lm_head.backward_weight(pass, x, d_logits, accumulate);
            // The next chunk adds to it.
            pass.sums.flush(pass.plan);
        }
        cross_entropy::loss_sum(pass.plan, losses, loss.total, loss.scale, loss.accumulate);
        d_hidden
    }

    /// `(first, rows)` of each chunk of logits. A chunk starts where a tensor may be bound, and holds no
    /// more than its class of adapters is given unless one step of rows is already more.
    fn chunks(&self, target: &Target, rows: usize) -> Vec<(usize, usize)> {
        let rows_of = |words: usize| words / self.config.vocab_size;
        let len = match target.class {
            // Every chunk reads the head's weight twice, and reads and writes its gradient, so few
            // large ones move less; but they take no more memory than a quarter of what weights,
            // gradients and both moments do.
            AdapterClass::Gpu => {
                let words = GPU_CHUNK_WORDS.min(target.max_binding_words);
                let steps = rows_of(words.min(self.parameter_words / 4)) / CHUNK_STEP;
                CHUNK_STEP * steps.max(1)
            }
            AdapterClass::Software => rows_of(SOFTWARE_CHUNK_WORDS)
                .clamp(1, rows.div_ceil(2))
                .next_multiple_of(CHUNK_STEP),
        };
        (0..rows)
            .step_by(len)
            .map(|first| (first, len.min(rows - first)))
            .collect()
    }
}

/// Elements of a head's weight whose halves take no memory to speak of.
const SMALL_HEAD: usize = 1 << 20;
/// Rows between the starts of chunks: row `CHUNK_STEP` of any tensor is at a binding offset.
const CHUNK_STEP: usize = 64;
/// Logits of a chunk on software adapters, 16 MiB.
const SOFTWARE_CHUNK_WORDS: usize = 4 << 20;
/// Logits of a chunk on GPUs at most, 128 MiB.
const GPU_CHUNK_WORDS: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Precision};

    fn transformer(vocab_size: usize, d_model: usize) -> Transformer {
        let config = ModelConfig {
            vocab_size,
            context_length: 64,
            d_model,
            num_layers: 1,
            num_heads: 1,
            num_kv_heads: 1,
            d_ff: d_model,
            rope_theta: 10_000.0,
            norm_eps: 1e-5,
            tie_embeddings: true,
            precision: Precision::F32,
            architecture: Architecture::default(),
        };
        let table = ParameterTable::new(&config, &[], 1 << 28);
        Transformer::new(&config, &table)
    }

    #[test]
    fn chunks_of_logits_cover_the_rows_and_keep_to_what_an_adapter_is_given() {
        let of = Target::portable;
        for (class, vocab_size, d_model, rows, want) in [
            // 128 MiB, whole steps of rows.
            (AdapterClass::Gpu, 50_257, 768, 8_192, 640),
            // All rows at once.
            (AdapterClass::Gpu, 1_000, 512, 1_024, 1_024),
            // No more words than the 243,072 parameters.
            (AdapterClass::Gpu, 1_000, 128, 1_024, 192),
            // One step of rows, though it has more words than there are parameters.
            (AdapterClass::Gpu, 1_000, 32, 1_024, 64),
            (AdapterClass::Software, 10_000, 512, 2_048, 448),
            (AdapterClass::Software, 1_000, 128, 1_024, 512),
            (AdapterClass::Software, 1_000, 128, 3, 3),
        ] {
            let chunks = transformer(vocab_size, d_model).chunks(&of(class), rows);
            assert_eq!(chunks[0], (0, want), "{class:?} {vocab_size} {rows}");
            let mut next = 0;
            for (first, len) in chunks {
                assert_eq!(first, next);
                next += len;
            }
            assert_eq!(next, rows);
        }
    }
}
