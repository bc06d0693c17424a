//! Mean loss of a checkpoint's model over a token file, with nothing on the device but the weights and
//! what a forward pass needs.

use super::InferenceModel;
use crate::Error;
use crate::config::ModelConfig;
use crate::data::dataset::Dataset;
use crate::gpu::executable::check_limits;
use crate::gpu::{Device, Executable, Memory, PersistentId, Plan, Readback, SectionId, Target};
use crate::kernels::rope::RopeTable;
use crate::model::score::Score;
use crate::model::transformer::{LossTarget, PassShape};
use crate::model::{BatchShape, InputLayout, Pass, Transformer};
use crate::weights::{FlatIds, ParameterTable};

/// The plan of a forward pass that ends in the sum of its losses.
pub struct ScorePlan {
    /// The dispatches.
    pub plan: Plan,
    /// The pass.
    pub section: SectionId,
    memory: Memory,
    weights: FlatIds,
    inputs: PersistentId,
    sum: PersistentId,
    angles: PersistentId,
    layout: InputLayout,
    shape: BatchShape,
}

impl ScorePlan {
    /// Plans passes over `batch_size` windows of one context length.
    pub fn new(
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
        let angle_words = shape.time * config.head_dim();
        let mut memory = Memory::default();
        let weights = table.declare(&mut memory, "parameters");
        let inputs = memory.declare("inputs", layout.words());
        let sum = memory.declare("loss", 1);
        let angles = memory.declare("rope_angles", angle_words);
        let mut plan = Plan::new(target);
        let bound = table.bind(&mut plan, &memory, &weights);
        let tensors = layout.bind(plan.persistent(&memory, inputs));
        let total = plan.persistent(&memory, sum).slice(0, 1);
        let angles_tensor = plan.persistent(&memory, angles).slice(0, angle_words);
        let section = plan.section();
        let transformer = Transformer::new(config, table);
        let pass_shape = PassShape {
            batch: shape,
            table: RopeTable {
                angles: angles_tensor.reshape(shape.time, config.head_dim()),
            },
            activation_checkpointing: false,
        };
        let mut pass = Pass::new(&mut plan, &bound, &[], false, config.precision);
        let forward = transformer.forward(&mut pass, tensors.tokens, &pass_shape);
        let loss = LossTarget {
            total,
            scale: 1.0,
            accumulate: false,
            gradient_factor: None,
        };
        transformer.loss(&mut pass, forward.residual, tensors.targets, loss);
        Self {
            plan,
            section,
            memory,
            weights,
            inputs,
            sum,
            angles,
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

/// A model that is being scored on a device.
pub struct Scorer {
    device: Device,
    plan: ScorePlan,
    buffers: crate::gpu::Buffers,
    executable: Executable,
    readback: Readback,
}

impl Scorer {
    /// Uploads the model, for passes over `batch_size` windows.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape, or the model does not fit the device.
    pub fn new(device: Device, model: &InferenceModel, batch_size: usize) -> Result<Self, Error> {
        let config = &model.config;
        let plan = ScorePlan::new(config, &model.table, batch_size, device.target());
        check_limits(&plan.plan, &device)?;
        let buffers = plan.memory.allocate(&device)?;
        let executable = Executable::compile(&plan.plan, &device, &buffers)?;
        model.upload(&device, &buffers, &plan.weights)?;
        let angles = Transformer::rope_angles(config, config.context_length);
        buffers.write(&device, plan.angles, 0, &angles);
        Ok(Self {
            device,
            plan,
            buffers,
            executable,
            readback: Readback::new(1),
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of device memory that its plan takes.
    pub fn planned_bytes(&self) -> u64 {
        let parts = self.plan.device_bytes();
        parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Mean cross-entropy in nats over the targets of the first `windows` windows of `dataset`, each of
    /// which starts where the one before ends.
    ///
    /// # Errors
    /// When the device fails or the file changed.
    pub fn mean_loss(&mut self, dataset: &Dataset, windows: usize) -> Result<f64, Error> {
        let score = Score {
            device: &self.device,
            buffers: &self.buffers,
            executable: &self.executable,
            section: self.plan.section,
            layout: self.plan.layout,
            inputs: self.plan.inputs,
            sum: self.plan.sum,
        };
        let passes = dataset.passes(windows, self.plan.shape.batch);
        score.mean_loss(&mut self.readback, passes)
    }
}
