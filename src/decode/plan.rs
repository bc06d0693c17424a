//! The plan of a pass that ends in one chosen token, and the memory that all such plans of a model share.

use crate::config::ModelConfig;
use crate::gpu::{Memory, PersistentId, Plan, SectionId, Target, Tensor};
use crate::kernels::embedding;
use crate::kernels::rope::RopeTable;
use crate::kernels::sample::{self, SETTINGS_WORDS, SampleRows};
use crate::model::transformer::PassShape;
use crate::model::{BatchShape, Pass, Transformer};
use crate::weights::{FlatIds, ParameterTable};

/// What plans of a model have in common.
pub struct DecodePlans {
    config: ModelConfig,
    transformer: Transformer,
    table: ParameterTable,
    pub(super) memory: Memory,
    pub(super) weights: FlatIds,
    pub(super) io: IoMemory,
}

/// Buffers between host and device.
#[derive(Clone, Copy, Debug)]
pub(super) struct IoMemory {
    pub(super) tokens: PersistentId,
    /// Row of the window's last token.
    pub(super) last: PersistentId,
    /// Settings of the draw.
    pub(super) settings: PersistentId,
    pub(super) chosen: PersistentId,
    pub(super) logits: PersistentId,
    pub(super) angles: PersistentId,
}

impl DecodePlans {
    /// Declares the weights of `table`, which is of `config`, and what goes in and out.
    pub fn new(config: &ModelConfig, table: &ParameterTable) -> Self {
        let mut memory = Memory::default();
        let weights = table.declare(&mut memory, "parameters");
        let io = IoMemory {
            tokens: memory.declare("tokens", config.context_length),
            last: memory.declare("last", 1),
            settings: memory.declare("settings", SETTINGS_WORDS),
            chosen: memory.declare("chosen", 1),
            logits: memory.declare("logits", config.vocab_size),
            angles: memory.declare("rope_angles", config.context_length * config.head_dim()),
        };
        Self {
            config: config.clone(),
            transformer: Transformer::new(config, table),
            table: table.clone(),
            memory,
            weights,
            io,
        }
    }

    /// Tokens that the plan for a window of `len` takes: what follows the window cannot be seen
    /// from it, so a plan may be longer than needed.
    pub fn planned_time(&self, len: usize) -> usize {
        let context_length = self.config.context_length;
        len.next_power_of_two().max(16).min(context_length)
    }

    /// Plans a pass over `time` tokens that ends in one chosen token.
    pub fn build(&self, target: Target, time: usize) -> (Plan, SectionId) {
        let (config, memory) = (&self.config, &self.memory);
        let mut plan = Plan::new(target);
        let weights = self.table.bind(&mut plan, memory, &self.weights);
        let mut vector =
            |id: PersistentId, len: usize| -> Tensor { plan.persistent(memory, id).slice(0, len) };
        let head_dim = config.head_dim();
        let table = RopeTable {
            angles: vector(self.io.angles, time * head_dim).reshape(time, head_dim),
        };
        let tokens = vector(self.io.tokens, time);
        let last = vector(self.io.last, 1);
        let settings = vector(self.io.settings, SETTINGS_WORDS);
        let chosen = vector(self.io.chosen, 1);
        let logits = vector(self.io.logits, config.vocab_size);
        let section = plan.section();
        let shape = PassShape {
            batch: BatchShape { batch: 1, time },
            table,
            activation_checkpointing: false,
        };
        let mut pass = Pass::new(&mut plan, &weights, &[], false, config.precision);
        let forward = self.transformer.forward(&mut pass, tokens, &shape);
        // Gathering a row is what an embedding does.
        let residual = embedding::forward(pass.plan, &[forward.residual], last);
        self.transformer.logits_into(&mut pass, residual, logits);
        let rows = SampleRows {
            logits,
            settings,
            context: tokens,
        };
        sample::sample(pass.plan, &rows, chosen);
        (plan, section)
    }

    /// Bytes of device memory by part while `plan` is the one that runs.
    pub fn device_bytes(&self, plan: &Plan) -> Vec<(String, u64)> {
        plan.device_bytes(&self.memory, self.config.context_length)
    }
}
