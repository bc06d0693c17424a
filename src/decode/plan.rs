//! The plans of decoding: a pass over a prompt, and a pass over one new token of each sequence, which
//! share memory.

use super::memory::DecodeMemory;
use crate::config::ModelConfig;
use crate::gpu::{Plan, SectionId, Target, Tensor};
use crate::kernels::attention_weights::{self, Head};
use crate::kernels::embedding;
use crate::kernels::logprobs::{MAX_TOP, row_words, token_logprobs};
use crate::kernels::sample::{self, SETTINGS_WORDS, SampleRows};
use crate::model::positions::PositionTable;
use crate::model::transformer::PassShape;
use crate::model::{BatchShape, Pass, Transformer};
use crate::weights::ParameterTable;

/// What plans of a model have in common.
pub struct DecodePlans {
    config: ModelConfig,
    transformer: Transformer,
    table: ParameterTable,
    pub(super) memory: DecodeMemory,
}

/// A pass over a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefill {
    /// Tokens that it takes.
    pub time: usize,
    /// Whether the token that it draws has log-probabilities.
    pub logprobs: bool,
    /// Whether the prompt's tokens have.
    pub prompt_logprobs: bool,
}

impl Prefill {
    /// A pass over `time` tokens without log-probabilities.
    pub fn of(time: usize) -> Self {
        Self {
            time,
            logprobs: false,
            prompt_logprobs: false,
        }
    }
}

/// A pass over one new token of each of several sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Sequences.
    pub rows: usize,
    /// Whether the tokens that it draws have log-probabilities.
    pub logprobs: bool,
}

impl Step {
    /// A pass over `rows` sequences without log-probabilities.
    pub fn of(rows: usize) -> Self {
        Self {
            rows,
            logprobs: false,
        }
    }
}

/// A head of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadAt {
    /// The layer, from zero on.
    pub layer: usize,
    /// The query head, from zero on.
    pub head: usize,
}

/// A plan of one section.
pub struct DecodePlan {
    /// The dispatches.
    pub plan: Plan,
    /// The pass.
    pub section: SectionId,
}

impl DecodePlans {
    /// Declares the weights of `table`, which is of `config`, in the forms that adapters like `target` read
    /// them in, what is kept of `slots` sequences, and what goes in and out.
    pub fn new(
        config: &ModelConfig,
        table: &ParameterTable,
        slots: usize,
        target: &Target,
    ) -> Self {
        let transformer = Transformer::new(config, table);
        let memory = DecodeMemory::new(config, table, &transformer, slots, target);
        Self {
            config: config.clone(),
            transformer,
            table: table.clone(),
            memory,
        }
    }

    /// Tokens that the plan for a window of `len` takes: what follows the window cannot be seen
    /// from it, so a plan may be longer than needed.
    pub fn planned_time(&self, len: usize) -> usize {
        let context_length = self.config.context_length;
        len.next_power_of_two().max(16).min(context_length)
    }

    /// Rows that the plan for `sequences` takes.
    pub fn planned_rows(&self, sequences: usize) -> usize {
        sequences.next_power_of_two().min(self.memory.slots)
    }

    /// Plans what brings the weights into the forms that passes read.
    pub(super) fn load(&self, target: Target) -> DecodePlan {
        let mut plan = Plan::new(target);
        let weights = self.bind(&mut plan);
        let section = plan.section();
        let mut pass = Pass::new(&mut plan, &weights, &[], false, self.config.precision);
        self.memory.load(&self.transformer, &mut pass);
        DecodePlan { plan, section }
    }

    /// Plans a pass over a prompt, after which a slot holds its keys and values, and one token is drawn.
    pub fn prefill(&self, target: Target, prefill: Prefill) -> DecodePlan {
        let (config, io) = (&self.config, &self.memory.io);
        let time = prefill.time;
        let mut plan = Plan::new(target);
        let weights = self.bind(&mut plan);
        let vector = |plan: &mut Plan, id, len| self.memory.vector(plan, id, len);
        let (tokens, shape) = self.prompt(&mut plan, time);
        let last = vector(&mut plan, io.last, 1);
        let caches = self.memory.caches(&mut plan, io.place, 1);
        let logits = vector(&mut plan, io.logits, config.vocab_size);
        let section = plan.section();
        let mut pass = Pass::new(&mut plan, &weights, &[], false, config.precision);
        let transformer = &self.transformer;
        self.memory.take_halves(transformer, &mut pass);
        let residual = transformer.forward_keeping(&mut pass, tokens, &shape, &caches);
        if prefill.prompt_logprobs {
            let targets = vector(pass.plan, io.targets, time);
            let words = row_words(MAX_TOP);
            let output = vector(pass.plan, io.prompt_logprobs, time * words).reshape(time, words);
            transformer.logprobs(&mut pass, residual, targets, MAX_TOP, output);
        }
        // Gathering a row is what an embedding does.
        pass.plan.set_scope("last");
        let residual = embedding::forward(pass.plan, &[residual], last);
        self.memory.take_few_rows(transformer, &mut pass);
        transformer.logits_into(&mut pass, residual, logits);
        self.draw(&mut pass, logits, tokens, prefill.logprobs);
        DecodePlan { plan, section }
    }

    /// Plans a pass over one new token of each row, whose key and value its slot then holds, and one token
    /// is drawn for each.
    pub fn step(&self, target: Target, step: Step) -> DecodePlan {
        let (config, io) = (&self.config, &self.memory.io);
        let Step { rows, logprobs } = step;
        // What a row gives must not depend on how many there are, nor on what was timed.
        let choices = target.choices.untimed();
        let mut plan = Plan::new(Target { choices, ..target });
        let weights = self.bind(&mut plan);
        let vector = |plan: &mut Plan, id, len| self.memory.vector(plan, id, len);
        let words = plan.persistent(&self.memory.memory, io.row_positions);
        let positions = PositionTable::of(config, words, rows);
        let tokens = vector(&mut plan, io.tokens, rows);
        let caches = self.memory.caches(&mut plan, io.places, rows);
        let vocab_size = config.vocab_size;
        let logits = vector(&mut plan, io.logits, rows * vocab_size).reshape(rows, vocab_size);
        let time = config.context_length;
        let context = vector(&mut plan, io.context, rows * time).reshape(rows, time);
        let section = plan.section();
        let mut pass = Pass::new(&mut plan, &weights, &[], false, config.precision);
        let transformer = &self.transformer;
        self.memory.take_halves(transformer, &mut pass);
        self.memory.take_few_rows(transformer, &mut pass);
        let residual = transformer.forward_cached(&mut pass, tokens, positions, &caches);
        transformer.logits_into(&mut pass, residual, logits);
        self.draw(&mut pass, logits, context, logprobs);
        DecodePlan { plan, section }
    }

    /// Plans a pass over `time` tokens that ends in the weights of one head, `[time, time]`, which are given
    /// beside it.
    pub(super) fn attention(
        &self,
        target: Target,
        time: usize,
        at: HeadAt,
    ) -> (DecodePlan, Tensor) {
        let config = &self.config;
        let mut plan = Plan::new(target);
        let weights = self.bind(&mut plan);
        let (tokens, shape) = self.prompt(&mut plan, time);
        let section = plan.section();
        let mut pass = Pass::new(&mut plan, &weights, &[], false, config.precision);
        self.memory.take_halves(&self.transformer, &mut pass);
        let qkv = self.transformer.qkv(&mut pass, tokens, &shape, at.layer);
        let head = Head {
            number: at.head,
            group: config.num_heads / config.num_kv_heads,
            head_dim: config.head_dim(),
        };
        let output = pass.plan.scratch("weights", time, time);
        attention_weights::weights(pass.plan, qkv, head, output);
        (DecodePlan { plan, section }, output)
    }

    /// What a pass over a prompt of `time` tokens reads.
    fn prompt(&self, plan: &mut Plan, time: usize) -> (Tensor, PassShape) {
        let io = &self.memory.io;
        let words = plan.persistent(&self.memory.memory, io.positions);
        let shape = PassShape {
            batch: BatchShape { batch: 1, time },
            positions: PositionTable::of(&self.config, words, time),
            documents: None,
            activation_checkpointing: false,
        };
        (self.memory.vector(plan, io.prompt, time), shape)
    }

    /// Draws a token of each row of `logits`, whose repetition penalty is for `context` `[rows, any]`.
    fn draw(&self, pass: &mut Pass<'_>, logits: Tensor, context: Tensor, logprobs: bool) {
        let io = &self.memory.io;
        let vector = |plan: &mut Plan, id, len| self.memory.vector(plan, id, len);
        let rows = logits.rows;
        pass.plan.set_scope("sample");
        let settings = vector(pass.plan, io.settings, rows * SETTINGS_WORDS);
        let chosen = vector(pass.plan, io.chosen, rows);
        let sample_rows = SampleRows {
            logits,
            settings: settings.reshape(rows, SETTINGS_WORDS),
            context,
        };
        sample::sample(pass.plan, &sample_rows, chosen);
        if logprobs {
            let words = row_words(MAX_TOP);
            let output = vector(pass.plan, io.logprobs, rows * words).reshape(rows, words);
            token_logprobs(pass.plan, logits, chosen, MAX_TOP, output);
        }
    }

    fn bind(&self, plan: &mut Plan) -> Vec<Vec<Tensor>> {
        let memory = &self.memory;
        self.table.bind(plan, &memory.memory, &memory.weights)
    }

    /// Bytes of device memory by part while `plans` are compiled.
    pub fn device_bytes(&self, plans: &[&Plan]) -> Vec<(String, u64)> {
        let memory = &self.memory.memory;
        let mut parts: Vec<(String, u64)> = memory
            .parts()
            .map(|(label, bytes)| (label.to_owned(), bytes))
            .collect();
        let each = |of: fn(&Plan) -> u64| plans.iter().map(|plan| of(plan)).sum();
        parts.push(("scratch".to_owned(), each(Plan::scratch_bytes)));
        parts.push(("params".to_owned(), each(Plan::params_bytes)));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::train::Model;
    use crate::gpu::{AdapterClass, Choices};
    use crate::kernels::SUBGROUP_LANES;

    fn launches(target: &Target, rows: usize) -> usize {
        let config = Model::Small.config();
        let table = ParameterTable::new(&config, &[], target.max_binding_words);
        let plans = DecodePlans::new(&config, &table, 8, target);
        let step = plans.step(target.clone(), Step::of(rows));
        step.plan.dispatches(step.section).len()
    }

    #[test]
    fn a_token_takes_seven_launches_a_layer_and_five_more() {
        let gpu = Target::portable(AdapterClass::Gpu);
        let software = Target {
            subgroup_size: Some(SUBGROUP_LANES),
            ..Target::portable(AdapterClass::Software)
        };
        assert_eq!(launches(&gpu, 1), 33);
        assert_eq!(launches(&gpu, 8), 33);
        assert_eq!(launches(&software, 1), 33);
        // Each operand of several rows is copied to a texture.
        assert_eq!(launches(&software, 8), 33 + 17);
    }

    #[test]
    fn a_step_asks_the_tuner_nothing_that_could_change_a_row() {
        let target = Target {
            choices: Choices::measured([("x".to_owned(), "y".to_owned())].into(), Some(132)),
            ..Target::portable(AdapterClass::Gpu)
        };
        let config = Model::Small.config();
        let table = ParameterTable::new(&config, &[], target.max_binding_words);
        let plans = DecodePlans::new(&config, &table, 8, &target);
        let plan = plans.step(target, Step::of(8)).plan;
        assert!(plan.target().choices.chosen().is_empty());
        assert_eq!(plan.target().choices.units(), None);
    }
}
