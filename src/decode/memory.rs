//! Device memory of decoding: weights in the forms that passes read, keys and values of each slot, and what
//! goes in and out.

use std::ops::Range;

use crate::config::{ModelConfig, Precision};
use crate::gpu::{AdapterClass, Elements, Memory, PersistentId, Plan, Target, Tensor, Window};
use crate::kernels::SUBGROUP_LANES;
use crate::kernels::attention_cache::{Cache, CacheShape};
use crate::kernels::half;
use crate::kernels::logprobs::{MAX_TOP, row_words};
use crate::kernels::matmul::{TEXTURE_SIDE, Variant};
use crate::kernels::matmul_stage;
use crate::kernels::sample::SETTINGS_WORDS;
use crate::model::pass::MatrixKey;
use crate::model::positions::words_a_position;
use crate::model::{Pass, Transformer};
use crate::weights::{FlatIds, ParameterTable};

/// What computes products of a few rows on adapters like `target`.
fn few_variant(target: &Target, precision: Precision) -> Variant {
    match precision {
        _ if reads_textures(target) => Variant::FewTexture,
        Precision::F32 => Variant::Few,
        Precision::Mixed => Variant::FewF16,
    }
}

/// Whether decoding reads weights from textures: on a CPU a load from one takes a quarter of the time.
fn reads_textures(target: &Target) -> bool {
    target.class == AdapterClass::Software && target.subgroup_size == Some(SUBGROUP_LANES)
}

/// What the plans of a model share.
pub(super) struct DecodeMemory {
    pub(super) memory: Memory,
    pub(super) weights: FlatIds,
    pub(super) io: IoMemory,
    pub(super) slots: usize,
    cache_shape: CacheShape,
    /// One a layer.
    caches: Vec<PersistentId>,
    cache_elements: Elements,
    operands: Vec<Operand>,
    few: Variant,
}

/// Buffers between host and device.
#[derive(Clone, Copy, Debug)]
pub(super) struct IoMemory {
    /// Of a pass over a prompt: its tokens.
    pub(super) prompt: PersistentId,
    /// The token that follows each of them.
    pub(super) targets: PersistentId,
    /// Row of its last token.
    pub(super) last: PersistentId,
    /// Its slot, and a word that is not read.
    pub(super) place: PersistentId,
    /// What passes read of the positions from zero on.
    pub(super) positions: PersistentId,
    /// Of a step: each row's newest token.
    pub(super) tokens: PersistentId,
    /// Slot and position of each row.
    pub(super) places: PersistentId,
    /// What passes read of each row's position.
    pub(super) row_positions: PersistentId,
    /// Tokens of each row that its repetition penalty is for.
    pub(super) context: PersistentId,
    /// Of both: settings of each row's draw.
    pub(super) settings: PersistentId,
    pub(super) logits: PersistentId,
    pub(super) chosen: PersistentId,
    /// Of the tokens that were drawn.
    pub(super) logprobs: PersistentId,
    /// Of a prompt's tokens.
    pub(super) prompt_logprobs: PersistentId,
}

/// A matrix of weights in the form that products read.
struct Operand {
    key: MatrixKey,
    held: Held,
}

enum Held {
    /// Some lines in each texture.
    Textures(Vec<(Range<usize>, PersistentId)>),
    /// `[rows, cols]` of halves.
    Halves {
        id: PersistentId,
        rows: usize,
        cols: usize,
    },
}

impl DecodeMemory {
    pub(super) fn new(
        config: &ModelConfig,
        table: &ParameterTable,
        transformer: &Transformer,
        slots: usize,
        target: &Target,
    ) -> Self {
        let mut memory = Memory::default();
        let weights = table.declare(&mut memory, "parameters");
        let operands =
            declare_operands(config, table, transformer, (&mut memory, &weights), target);
        let cache_elements = match config.precision {
            Precision::F32 => Elements::Words,
            Precision::Mixed => Elements::Halves,
        };
        let one = CacheShape {
            slots: 1,
            capacity: config.context_length,
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            head_dim: config.head_dim(),
        };
        let fitting = target.max_binding_words / one.words(cache_elements);
        let slots = slots.min(fitting).max(1);
        let cache_shape = CacheShape { slots, ..one };
        let caches = (0..config.num_layers)
            .map(|layer| {
                let label = format!("layers.{layer}.cache");
                memory.declare(label, cache_shape.words(cache_elements))
            })
            .collect();
        let io = IoMemory::declare(&mut memory, config, slots);
        Self {
            memory,
            weights,
            io,
            slots,
            cache_shape,
            caches,
            cache_elements,
            operands,
            few: few_variant(target, config.precision),
        }
    }

    /// The first `len` words of a buffer.
    pub(super) fn vector(&self, plan: &mut Plan, id: PersistentId, len: usize) -> Tensor {
        plan.persistent(&self.memory, id).slice(0, len)
    }

    /// The caches of all layers for `rows` rows, whose slots and positions are in `places`.
    pub(super) fn caches(&self, plan: &mut Plan, places: PersistentId, rows: usize) -> Vec<Cache> {
        let places = self.vector(plan, places, 2 * rows);
        let cache = |plan: &mut Plan, id: PersistentId| {
            let words = plan.persistent(&self.memory, id);
            let shape = self.cache_shape;
            let tensor = match self.cache_elements {
                Elements::Words => words.slice(0, shape.words(Elements::Words)),
                Elements::Halves => words.as_halves(1, shape.slots * shape.slot_len()),
            };
            Cache {
                tensor,
                shape,
                places,
            }
        };
        self.caches.iter().map(|&id| cache(plan, id)).collect()
    }

    /// Makes the products of a pass read halves of the weights where these are held.
    pub(super) fn take_halves(&self, transformer: &Transformer, pass: &mut Pass<'_>) {
        for (Operand { key, held }, _) in self.with_words(transformer, pass) {
            if let Held::Halves { id, rows, cols } = held {
                let words = pass.plan.persistent(&self.memory, *id);
                pass.set_operand(*key, words.as_halves(*rows, *cols));
            }
        }
    }

    /// Makes products from here on be those of a few rows.
    pub(super) fn take_few_rows(&self, transformer: &Transformer, pass: &mut Pass<'_>) {
        pass.take_few_rows(self.few);
        for (Operand { key, held }, matrix) in self.with_words(transformer, pass) {
            let Held::Textures(textures) = held else {
                continue;
            };
            // Rounded or not, what is read of it is in the textures.
            pass.set_operand(*key, matrix);
            for (lines, id) in textures {
                let texture = pass.plan.persistent_texture(&self.memory, *id);
                let window = lines_of(matrix, lines);
                pass.plan.remember_staged(window, texture);
            }
        }
    }

    /// Brings the weights to where they are held.
    pub(super) fn load(&self, transformer: &Transformer, pass: &mut Pass<'_>) {
        let is_mixed = pass.is_mixed();
        for (Operand { held, .. }, words) in self.with_words(transformer, pass) {
            match held {
                Held::Halves { id, rows, cols } => {
                    let halves = pass.plan.persistent(&self.memory, *id);
                    half::halve_into(pass.plan, words, None, halves.as_halves(*rows, *cols));
                }
                Held::Textures(textures) => {
                    let matrix = if is_mixed {
                        half::halve(pass.plan, words, None)
                    } else {
                        words
                    };
                    for (lines, id) in textures {
                        let texture = pass.plan.persistent_texture(&self.memory, *id);
                        matmul_stage::stage_into(pass.plan, lines_of(matrix, lines), texture);
                    }
                }
            }
        }
    }

    /// Each matrix that is held, and where its master copy lies.
    fn with_words(&self, transformer: &Transformer, pass: &Pass<'_>) -> Vec<(&Operand, Tensor)> {
        let matrices = transformer
            .linears()
            .flat_map(|linear| pass.matrices_of(linear));
        let words = matrices.map(|(_, words)| words);
        self.operands.iter().zip(words).collect()
    }
}

/// Some lines of a matrix, as products of a few rows read them.
fn lines_of(matrix: Tensor, lines: &Range<usize>) -> Window {
    Window {
        first_row: lines.start,
        rows: lines.len(),
        ..Window::whole(matrix)
    }
}

/// Declares what holds the weights of all linear layers, where passes do not read them as they lie.
fn declare_operands(
    config: &ModelConfig,
    table: &ParameterTable,
    transformer: &Transformer,
    (memory, weights): (&mut Memory, &FlatIds),
    target: &Target,
) -> Vec<Operand> {
    let in_textures = reads_textures(target);
    if !in_textures && config.precision == Precision::F32 {
        return Vec::new();
    }
    let mut plan = Plan::new(target.clone());
    let bound = table.bind(&mut plan, memory, weights);
    let pass = Pass::new(&mut plan, &bound, &[], false, config.precision);
    let matrices = transformer
        .linears()
        .flat_map(|linear| pass.matrices_of(linear));
    let matrices: Vec<(MatrixKey, Tensor)> = matrices.collect();
    matrices
        .into_iter()
        .enumerate()
        .map(|(number, (key, words))| {
            let (rows, cols) = (words.rows, words.cols);
            let label = format!("operands.{number}");
            let held = if in_textures {
                let lines = (0..rows).step_by(TEXTURE_SIDE);
                let lines = lines.map(|first| first..rows.min(first + TEXTURE_SIDE));
                let declare = |lines: Range<usize>| {
                    let (rows, cols) = matmul_stage::padded(lines.len(), cols);
                    let id = memory.declare_texture(label.clone(), rows, cols);
                    (lines, id)
                };
                Held::Textures(lines.map(declare).collect())
            } else {
                let id = memory.declare(label, Tensor::words_of_halves(rows, cols));
                Held::Halves { id, rows, cols }
            };
            Operand { key, held }
        })
        .collect()
}

impl IoMemory {
    fn declare(memory: &mut Memory, config: &ModelConfig, slots: usize) -> Self {
        let (time, position) = (config.context_length, words_a_position(config));
        let logprobs = row_words(MAX_TOP);
        let mut declare = |label: &str, words: usize| memory.declare(label, words);
        Self {
            prompt: declare("prompt", time),
            targets: declare("targets", time),
            last: declare("last", 1),
            place: declare("place", 2),
            positions: declare("positions", time * position),
            tokens: declare("tokens", slots),
            places: declare("places", 2 * slots),
            row_positions: declare("row_positions", slots * position),
            context: declare("context", slots * time),
            settings: declare("settings", slots * SETTINGS_WORDS),
            logits: declare("logits", slots * config.vocab_size),
            chosen: declare("chosen", slots),
            logprobs: declare("logprobs", slots * logprobs),
            prompt_logprobs: declare("prompt_logprobs", time * logprobs),
        }
    }
}
