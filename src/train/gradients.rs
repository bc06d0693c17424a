//! The loss of given tokens and targets and its gradients, for whoever takes the steps elsewhere.

use std::collections::BTreeMap;

use crate::Error;
use crate::config::{ModelConfig, Positions, Precision};
use crate::decode::{DecodeError, InferenceModel, check_ids};
use crate::gpu::executable::check_limits;
use crate::gpu::{Buffers, Device, Executable, Memory, PersistentId, Plan, SectionId};
use crate::kernels::cross_entropy::IGNORED;
use crate::model::positions::{PositionTable, position_words, words_a_position};
use crate::model::transformer::{LossTarget, PassShape};
use crate::model::{BatchShape, InputLayout, Pass, Transformer};
use crate::weights::{FlatIds, HostTensor, ParameterTable};

/// Tokens of one batch at most, since its inputs have a buffer.
pub const MOST_TOKENS: usize = 1 << 16;
/// Plans that are kept.
const MOST_PLANS: usize = 4;

/// A model on a device with its gradients.
///
/// It computes in f32 whatever the model's precision is, so that gradients need no scale.
pub struct Gradients {
    device: Device,
    config: ModelConfig,
    table: ParameterTable,
    memory: Memory,
    parameters: FlatIds,
    gradients: FlatIds,
    inputs: PersistentId,
    positions: PersistentId,
    loss: PersistentId,
    buffers: Buffers,
    /// By sequences and tokens of each.
    planned: BTreeMap<(usize, usize), Planned>,
}

struct Planned {
    executable: Executable,
    section: SectionId,
    layout: InputLayout,
}

impl Gradients {
    /// Uploads the model.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape, or the model does not fit the device.
    pub fn new(device: Device, model: &InferenceModel) -> Result<Self, Error> {
        let config = ModelConfig {
            precision: Precision::F32,
            ..model.config.clone()
        };
        let mut memory = Memory::default();
        let parameters = model.table.declare(&mut memory, "parameters");
        let gradients = model.table.declare(&mut memory, "gradients");
        let most = BatchShape {
            batch: 1,
            time: MOST_TOKENS,
        };
        let layout = InputLayout::new(most, config.vocab_size);
        let inputs = memory.declare("inputs", layout.words());
        let position_words_in_all = config.context_length * words_a_position(&config);
        let positions = memory.declare("positions", position_words_in_all);
        let loss = memory.declare("loss", 1);
        let buffers = memory.allocate(&device)?;
        model.upload(&device, &buffers, &parameters)?;
        let words = position_words(&config, 0..config.context_length);
        buffers.write(&device, positions, 0, &words);
        Ok(Self {
            device,
            table: model.table.clone(),
            config,
            memory,
            parameters,
            gradients,
            inputs,
            positions,
            loss,
            buffers,
            planned: BTreeMap::new(),
        })
    }

    /// Takes over other parameters, in the order of the table.
    ///
    /// # Panics
    /// If they are of another model: a bug of the caller.
    pub fn write_parameters(&self, parameters: &[HostTensor]) {
        for (parameter, tensor) in self.table.iter().zip(parameters) {
            parameter.write(&self.device, &self.buffers, &self.parameters, tensor);
        }
    }

    /// Mean loss in nats of the `targets` that are not [`IGNORED`] behind `tokens`, `[sequences, time]` each, and its
    /// gradient for each parameter, in the order of the table; zeros where every target is.
    ///
    /// # Errors
    /// When there is no token, there are more than [`MOST_TOKENS`], `time` is over the context, an id is
    /// unknown, or the device fails.
    ///
    /// # Panics
    /// If the tokens are no whole number of sequences, or the targets are not as many: a bug of the caller.
    pub fn loss_and_gradients(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        time: usize,
    ) -> Result<(f32, Vec<HostTensor>), Error> {
        check_ids(tokens, self.config.vocab_size)?;
        let counted: Vec<u32> = targets.iter().copied().filter(|&t| t != IGNORED).collect();
        if !counted.is_empty() {
            check_ids(&counted, self.config.vocab_size)?;
        }
        let context_length = self.config.context_length;
        if time > context_length {
            return Err(DecodeError::TooLong {
                tokens: time,
                context_length,
            }
            .into());
        }
        if tokens.len() > MOST_TOKENS {
            return Err(DecodeError::TooMany {
                tokens: tokens.len(),
                most: MOST_TOKENS,
            }
            .into());
        }
        assert_eq!(tokens.len() % time, 0, "whole sequences of {time} tokens");
        self.clear_positions(time);
        let shape = BatchShape {
            batch: tokens.len() / time,
            time,
        };
        let key = (shape.batch, shape.time);
        if !self.planned.contains_key(&key) {
            if self.planned.len() == MOST_PLANS {
                self.planned.clear();
            }
            let made = self.plan(shape)?;
            self.planned.insert(key, made);
        }
        let planned = &self.planned[&key];
        let scale = InputLayout::mean_scale(targets);
        let words = planned.layout.pack(tokens, targets, None, scale);
        self.buffers.write(&self.device, self.inputs, 0, &words);
        planned.executable.run(&self.device, planned.section)?;
        let loss: Vec<f32> = self.buffers.read(&self.device, self.loss, 0, 1)?;
        let read =
            |p: &crate::weights::Parameter| p.read(&self.device, &self.buffers, &self.gradients);
        let gradients = self.table.iter().map(read).collect::<Result<_, _>>()?;
        Ok((loss[0], gradients))
    }

    /// A pass leaves the gradients of positions that it does not reach as they were.
    fn clear_positions(&self, time: usize) {
        let has_vectors = self.config.architecture.positions == Positions::Learned;
        if !has_vectors || time == self.config.context_length {
            return;
        }
        let vectors = self.table.iter().filter(|p| p.may_be_longer());
        for parameter in vectors {
            let zeros = HostTensor::from_f32(&vec![0.0; parameter.len()]);
            parameter.write(&self.device, &self.buffers, &self.gradients, &zeros);
        }
    }

    fn plan(&self, shape: BatchShape) -> Result<Planned, Error> {
        let (config, memory) = (&self.config, &self.memory);
        let layout = InputLayout::new(shape, config.vocab_size);
        let mut plan = Plan::new(self.device.target());
        let weights = self.table.bind(&mut plan, memory, &self.parameters);
        let gradients = self.table.bind(&mut plan, memory, &self.gradients);
        let inputs = layout.bind(plan.persistent(memory, self.inputs));
        let positions = plan.persistent(memory, self.positions);
        let total = plan.persistent(memory, self.loss);
        let pass_shape = PassShape {
            batch: shape,
            positions: PositionTable::of(config, positions, shape.time),
            documents: None,
            activation_checkpointing: false,
        };
        let loss = LossTarget {
            total,
            scale: inputs.scale,
            accumulate: false,
            gradient_factor: None,
        };
        let section = plan.section();
        let transformer = Transformer::new(config, &self.table);
        let mut pass = Pass::new(&mut plan, &weights, &gradients, false, config.precision);
        let forward = transformer.forward(&mut pass, inputs.tokens, &pass_shape);
        transformer.loss_and_backward(&mut pass, &inputs, &forward, &pass_shape, loss);
        check_limits(&plan, &self.device)?;
        let executable = Executable::compile(&plan, &self.device, &self.buffers)?;
        Ok(Planned {
            executable,
            section,
            layout,
        })
    }
}
