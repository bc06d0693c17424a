//! The logits of every position of whole sequences.

use std::collections::BTreeMap;

use super::{DecodeError, InferenceModel};
use crate::Error;
use crate::config::ModelConfig;
use crate::gpu::executable::check_limits;
use crate::gpu::{Buffers, Device, Executable, Memory, PersistentId, Plan, SectionId};
use crate::model::positions::{PositionTable, position_words, words_a_position};
use crate::model::transformer::PassShape;
use crate::model::{BatchShape, Pass, Transformer};
use crate::weights::{FlatIds, HostTensor, ParameterTable};

/// Logits of one pass at most, unless one sequence has more, 64 MiB.
const PASS_WORDS: usize = 16 << 20;
/// Tokens of one pass at most, unless one sequence has more.
const PASS_ROWS: usize = 4096;
/// Each part of the logits but the last has a multiple of so many rows, which can be bound alone.
const PART_ROWS: usize = 64;
/// Shortest sequence that is planned.
const LEAST_TIME: usize = 16;
/// Plans that are kept.
const MOST_PLANS: usize = 8;

/// A model on a device, for the logits of batches of sequences.
pub struct BatchLogits {
    device: Device,
    config: ModelConfig,
    table: ParameterTable,
    memory: Memory,
    weights: FlatIds,
    tokens: PersistentId,
    positions: PersistentId,
    /// Where the logits go, and the rows of each.
    parts: Vec<(PersistentId, usize)>,
    /// Tokens of one pass at most.
    rows: usize,
    buffers: Buffers,
    /// By sequences and tokens of each.
    planned: BTreeMap<(usize, usize), (Executable, SectionId)>,
}

impl BatchLogits {
    /// Uploads the model, for sequences of at most `time` tokens.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape, or the model does not fit the device.
    pub fn new(device: Device, model: &InferenceModel, time: usize) -> Result<Self, Error> {
        let config = model.config.clone();
        let rows = (PASS_WORDS / config.vocab_size)
            .min(PASS_ROWS)
            .max(planned_time(time, config.context_length));
        let mut memory = Memory::default();
        let weights = model.table.declare(&mut memory, "parameters");
        let tokens = memory.declare("tokens", rows);
        let position_words_in_all = config.context_length * words_a_position(&config);
        let positions = memory.declare("positions", position_words_in_all);
        let most_words = device.target().max_binding_words.min(PASS_WORDS);
        let part_rows = (most_words / config.vocab_size / PART_ROWS).max(1) * PART_ROWS;
        let parts = (0..rows).step_by(part_rows).map(|first| {
            let rows = part_rows.min(rows - first);
            (memory.declare("logits", rows * config.vocab_size), rows)
        });
        let parts = parts.collect();
        let buffers = memory.allocate(&device)?;
        model.upload(&device, &buffers, &weights)?;
        let words = position_words(&config, 0..config.context_length);
        buffers.write(&device, positions, 0, &words);
        Ok(Self {
            device,
            table: model.table.clone(),
            config,
            memory,
            weights,
            tokens,
            positions,
            parts,
            rows,
            buffers,
            planned: BTreeMap::new(),
        })
    }

    /// Whether it takes sequences of `time` tokens.
    pub fn takes(&self, time: usize) -> bool {
        planned_time(time, self.config.context_length) <= self.rows
    }

    /// Takes over other parameters, in the order of the table.
    ///
    /// # Panics
    /// If they are of another model: a bug of the caller.
    pub fn write_parameters(&self, parameters: &[HostTensor]) {
        for (parameter, tensor) in self.table.iter().zip(parameters) {
            parameter.write(&self.device, &self.buffers, &self.weights, tensor);
        }
    }

    /// Logits `[sequences, time, vocab]` of `tokens` `[sequences, time]`: those of the token behind each.
    ///
    /// # Errors
    /// When there is no token, `time` is over the context, a token is unknown, or the device fails.
    ///
    /// # Panics
    /// If the tokens are no whole number of sequences, or these are longer than it [takes](Self::takes): a bug of
    /// the caller.
    pub fn logits(&mut self, tokens: &[u32], time: usize) -> Result<Vec<f32>, Error> {
        check_ids(tokens, self.config.vocab_size)?;
        let context_length = self.config.context_length;
        if time > context_length {
            let tokens = time;
            return Err(DecodeError::TooLong {
                tokens,
                context_length,
            }
            .into());
        }
        assert_eq!(tokens.len() % time, 0, "whole sequences of {time} tokens");
        assert!(self.takes(time), "{time} tokens");
        let planned = planned_time(time, context_length);
        let batch = (self.rows / planned).max(1);
        let mut all = Vec::with_capacity(tokens.len() * self.config.vocab_size);
        for sequences in tokens.chunks(batch * time) {
            self.pass(sequences, time, planned, &mut all)?;
        }
        Ok(all)
    }

    /// One pass over sequences of `time` tokens, each filled up to `planned`.
    fn pass(
        &mut self,
        tokens: &[u32],
        time: usize,
        planned: usize,
        all: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let shape = BatchShape {
            batch: tokens.len() / time,
            time: planned,
        };
        let mut padded = Vec::with_capacity(shape.rows());
        for sequence in tokens.chunks(time) {
            padded.extend_from_slice(sequence);
            padded.resize(padded.len() + planned - time, 0);
        }
        let key = (shape.batch, shape.time);
        if !self.planned.contains_key(&key) {
            if self.planned.len() == MOST_PLANS {
                self.planned.clear();
            }
            let made = self.plan(shape)?;
            self.planned.insert(key, made);
        }
        let (executable, section) = &self.planned[&key];
        self.buffers.write(&self.device, self.tokens, 0, &padded);
        executable.run(&self.device, *section)?;
        let vocab_size = self.config.vocab_size;
        let mut first = 0;
        for &(id, rows) in &self.parts {
            let rows = rows.min(shape.rows() - first);
            if rows == 0 {
                break;
            }
            let words = rows * vocab_size;
            let logits: Vec<f32> = self.buffers.read(&self.device, id, 0, words)?;
            let rows = (first..).zip(logits.chunks_exact(vocab_size));
            for (_, row) in rows.filter(|(row, _)| row % planned < time) {
                all.extend_from_slice(row);
            }
            first += words / vocab_size;
        }
        Ok(())
    }

    fn plan(&self, shape: BatchShape) -> Result<(Executable, SectionId), Error> {
        let (config, memory) = (&self.config, &self.memory);
        let mut plan = Plan::new(self.device.target());
        let bound = self.table.bind(&mut plan, memory, &self.weights);
        let tokens = plan.persistent(memory, self.tokens).slice(0, shape.rows());
        let positions = plan.persistent(memory, self.positions);
        let mut parts = Vec::new();
        let mut left = shape.rows();
        for &(id, rows) in &self.parts {
            let rows = rows.min(left);
            if rows > 0 {
                let part = plan
                    .persistent(memory, id)
                    .slice(0, rows * config.vocab_size);
                parts.push(part.reshape(rows, config.vocab_size));
            }
            left -= rows;
        }
        let pass_shape = PassShape {
            batch: shape,
            positions: PositionTable::of(config, positions, shape.time),
            documents: None,
            activation_checkpointing: false,
        };
        let section = plan.section();
        let transformer = Transformer::new(config, &self.table);
        let mut pass = Pass::new(&mut plan, &bound, &[], false, config.precision);
        let forward = transformer.forward(&mut pass, tokens, &pass_shape);
        transformer.logits_in_parts(&mut pass, forward.residual, &parts);
        check_limits(&plan, &self.device)?;
        let executable = Executable::compile(&plan, &self.device, &self.buffers)?;
        Ok((executable, section))
    }
}

/// Tokens behind a sequence's last change nothing before them; so few lengths need a plan.
fn planned_time(time: usize, context_length: usize) -> usize {
    time.next_power_of_two()
        .clamp(LEAST_TIME.min(context_length), context_length)
}

/// Shaders index by token without a bounds check.
pub(crate) fn check_ids(tokens: &[u32], vocab_size: usize) -> Result<(), DecodeError> {
    if tokens.is_empty() {
        return Err(DecodeError::EmptyPrompt);
    }
    match tokens.iter().position(|&t| t as usize >= vocab_size) {
        None => Ok(()),
        Some(position) => Err(DecodeError::OutsideVocab {
            token: tokens[position],
            position,
            vocab_size,
        }),
    }
}
