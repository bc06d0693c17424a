//! Forward passes that score windows, with nothing on the device but the weights and what such a pass needs;
//! the mean loss of a model over a token file.

use super::InferenceModel;
use crate::Error;
use crate::config::ModelConfig;
use crate::data::dataset::Dataset;
use crate::gpu::executable::check_limits;
use crate::gpu::{
    Buffers, Device, Executable, Memory, PersistentId, Plan, Readback, SectionId, Target,
};
use crate::kernels::logprobs::row_words;
use crate::model::positions::{PositionTable, position_words, words_a_position};
use crate::model::score::Score;
use crate::model::transformer::{LossTarget, PassShape};
use crate::model::{BatchShape, InputLayout, Pass, Transformer};
use crate::weights::{FlatIds, ParameterTable};

/// The plan of a forward pass that ends in the sum of its losses, or in log-probabilities.
pub struct ScorePlan {
    /// The dispatches.
    pub plan: Plan,
    /// The pass.
    pub section: SectionId,
    memory: Memory,
    weights: FlatIds,
    pub(super) inputs: PersistentId,
    pub(super) result: PersistentId,
    positions: PersistentId,
    pub(super) layout: InputLayout,
    shape: BatchShape,
}

/// What a pass ends in.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The sum of its losses.
    LossSum,
    /// The log-probability of each target, and so many of the likeliest tokens.
    Logprobs { top: usize },
}

impl ScorePlan {
    /// Plans passes over `batch_size` windows of one context length, which end in the sum of their losses.
    pub fn new(
        config: &ModelConfig,
        table: &ParameterTable,
        batch_size: usize,
        target: Target,
    ) -> Self {
        Self::ending_in(Ending::LossSum, config, table, batch_size, target)
    }

    /// Plans such passes that end in the log-probability of each target and the `top` likeliest tokens.
    pub fn logprobs(
        config: &ModelConfig,
        table: &ParameterTable,
        batch_size: usize,
        top: usize,
        target: Target,
    ) -> Self {
        Self::ending_in(Ending::Logprobs { top }, config, table, batch_size, target)
    }

    fn ending_in(
        ending: Ending,
        config: &ModelConfig,
        table: &ParameterTable,
        batch_size: usize,
        target: Target,
    ) -> Self {
        let shape = BatchShape {
            batch: batch_size,
            time: config.context_length,
        };
        let layout = InputLayout::new(shape, config.vocab_size);
        let position_words = shape.time * words_a_position(config);
        let mut memory = Memory::default();
        let weights = table.declare(&mut memory, "parameters");
        let inputs = memory.declare("inputs", layout.words());
        let (label, rows, cols) = match ending {
            Ending::LossSum => ("loss", 1, 1),
            Ending::Logprobs { top } => ("logprobs", shape.rows(), row_words(top)),
        };
        let result = memory.declare(label, rows * cols);
        let positions = memory.declare("positions", position_words);
        let mut plan = Plan::new(target);
        let bound = table.bind(&mut plan, &memory, &weights);
        let tensors = layout.bind(plan.persistent(&memory, inputs));
        let output = plan.persistent(&memory, result).slice(0, rows * cols);
        let position_tensor = plan.persistent(&memory, positions);
        let section = plan.section();
        let transformer = Transformer::new(config, table);
        let pass_shape = PassShape {
            batch: shape,
            positions: PositionTable::of(config, position_tensor, shape.time),
            documents: None,
            activation_checkpointing: false,
        };
        let mut pass = Pass::new(&mut plan, &bound, &[], false, config.precision);
        let forward = transformer.forward(&mut pass, tensors.tokens, &pass_shape);
        let (residual, targets) = (forward.residual, tensors.targets);
        match ending {
            Ending::LossSum => {
                let loss = LossTarget {
                    total: output,
                    scale: tensors.scale,
                    accumulate: false,
                    gradient_factor: None,
                };
                transformer.loss(&mut pass, residual, targets, loss);
            }
            Ending::Logprobs { top } => {
                let output = output.reshape(rows, cols);
                transformer.logprobs(&mut pass, residual, targets, top, output);
            }
        }
        Self {
            plan,
            section,
            memory,
            weights,
            inputs,
            result,
            positions,
            layout,
            shape,
        }
    }

    /// Bytes of device memory by part, as [`StepPlan::device_bytes`](crate::train::step_plan::StepPlan::device_bytes)
    /// gives them for training.
    pub fn device_bytes(&self) -> Vec<(String, u64)> {
        self.plan
            .device_bytes(&self.memory, 2 * self.layout.words())
    }
}

/// A model on a device, with the plan of its passes.
pub(super) struct Loaded {
    pub(super) device: Device,
    pub(super) plan: ScorePlan,
    pub(super) buffers: Buffers,
    pub(super) executable: Executable,
}

impl Loaded {
    /// Uploads the model.
    pub(super) fn new(
        device: Device,
        model: &InferenceModel,
        plan: ScorePlan,
    ) -> Result<Self, Error> {
        let config = &model.config;
        check_limits(&plan.plan, &device)?;
        let buffers = plan.memory.allocate(&device)?;
        let executable = Executable::compile(&plan.plan, &device, &buffers)?;
        model.upload(&device, &buffers, &plan.weights)?;
        let positions = position_words(config, 0..config.context_length);
        buffers.write(&device, plan.positions, 0, &positions);
        Ok(Self {
            device,
            plan,
            buffers,
            executable,
        })
    }
}

/// A model whose loss is computed on a device.
pub struct Scorer {
    loaded: Loaded,
    readback: Readback,
}

impl Scorer {
    /// Uploads the model, for passes over `batch_size` windows.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape, or the model does not fit the device.
    pub fn new(device: Device, model: &InferenceModel, batch_size: usize) -> Result<Self, Error> {
        let plan = ScorePlan::new(&model.config, &model.table, batch_size, device.target());
        Ok(Self {
            loaded: Loaded::new(device, model, plan)?,
            readback: Readback::new(1),
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.loaded.device
    }

    /// Bytes of device memory that its plan takes.
    pub fn planned_bytes(&self) -> u64 {
        let parts = self.loaded.plan.device_bytes();
        parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Mean cross-entropy in nats over the targets of the first `windows` windows of `dataset`, each of
    /// which starts where the one before ends.
    ///
    /// # Errors
    /// When the device fails or the file changed.
    pub fn mean_loss(&mut self, dataset: &Dataset, windows: usize) -> Result<f64, Error> {
        let Loaded {
            device,
            plan,
            buffers,
            executable,
        } = &self.loaded;
        let score = Score {
            device,
            buffers,
            executable,
            section: plan.section,
            layout: plan.layout,
            inputs: plan.inputs,
            sum: plan.result,
        };
        let passes = dataset.passes(windows, plan.shape.batch);
        score.mean_loss(&mut self.readback, passes)
    }
}
