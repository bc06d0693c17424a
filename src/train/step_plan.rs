//! The plan of a training step as data: what it keeps, and its four sections.

use crate::config::{ModelConfig, Positions, Precision, TrainConfig};
use crate::gpu::{Memory, PersistentId, Plan, SectionId, Target, Tensor};
use crate::kernels::adamw::{self, AdamwSettings, AdamwTensors};
use crate::kernels::{grad_norm, loss_scale};
use crate::model::inputs::Inputs;
use crate::model::positions::{PositionTable, words_a_position};
use crate::model::transformer::{LossTarget, PassShape};
use crate::model::{BatchShape, InputLayout, Pass, Transformer};
use crate::weights::{FlatIds, ParameterMemory, ParameterTable};

/// Words of the metrics buffer up to and with the state of the loss scale.
pub const METRICS_WORDS: usize = SCALE_WORD + loss_scale::WORDS;
/// Word of the metrics buffer that holds the loss.
pub const LOSS_WORD: usize = 0;
/// Word of the metrics buffer that holds the gradient norm; the clip factor follows. It is at the
/// next binding offset, since the loss and the norm are bound alone.
pub const NORM_WORD: usize = 64;
/// Word of the metrics buffer at which the state of the loss scale begins, if there is one.
pub const SCALE_WORD: usize = 128;

/// Persistent buffers of a step besides the parameters.
#[derive(Clone, Copy, Debug)]
pub struct StepMemory {
    /// Inputs of all micro-batches of a step, one [`InputLayout`] after the other.
    pub batch: PersistentId,
    /// Inputs of the pass that runs.
    pub inputs: PersistentId,
    /// Learning rate and bias corrections.
    pub step: PersistentId,
    /// Loss, gradient norm and clip factor, and the state of the loss scale.
    pub metrics: PersistentId,
    /// What passes read of positions.
    pub positions: PersistentId,
}

/// The sections, in the order of a step.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    /// Forward and backward of the first micro-batch, which overwrites gradients.
    pub first: SectionId,
    /// Forward and backward of every further micro-batch, which adds to gradients.
    pub next: SectionId,
    /// Norm, clip factor and AdamW.
    pub update: SectionId,
    /// Forward and loss alone: the sum over the pass, for evaluation.
    pub evaluate: SectionId,
}

/// Everything a device needs to know to train.
pub struct StepPlan {
    /// The dispatches.
    pub plan: Plan,
    /// The buffers that outlive a step.
    pub memory: Memory,
    /// The parameters.
    pub table: ParameterTable,
    /// Where parameters, gradients and moments are.
    pub parameters: ParameterMemory,
    /// Where the rest is.
    pub step: StepMemory,
    /// The parts of the plan.
    pub sections: Sections,
    /// Layout of one pass's inputs.
    pub layout: InputLayout,
    /// Shape of one pass.
    pub shape: BatchShape,
    /// Passes of a step.
    pub micro_batches: usize,
    /// Whether products take halves, and gradients are scaled.
    pub is_mixed: bool,
}

/// The AdamW settings of `config`, with the decay of parameters that decay.
pub fn adamw_settings(config: &TrainConfig) -> AdamwSettings {
    AdamwSettings {
        beta1: config.beta1,
        beta2: config.beta2,
        eps: config.eps,
        weight_decay: config.weight_decay,
    }
}

impl StepPlan {
    /// Plans the steps of `train` for `model`, in time linear in the number of layers.
    ///
    /// # Panics
    /// If what `train` freezes or adapts is not the model's: [`ParameterTable::for_training`] tells before.
    pub fn new(model: &ModelConfig, train: &TrainConfig, target: Target) -> Self {
        let table = ParameterTable::for_training(model, train, target.max_binding_words);
        let table = table.expect("what is frozen and adapted was checked");
        let shape = BatchShape {
            batch: train.micro_batch_size,
            time: model.context_length,
        };
        let micro_batches = train.batch_size / train.micro_batch_size;
        let mut layout = InputLayout::new(shape, model.vocab_size);
        if train.document_mask {
            let is_learned = model.architecture.positions == Positions::Learned;
            layout = layout.with_documents(is_learned.then_some(model.context_length));
        }
        let mut memory = Memory::default();
        let parameters = ParameterMemory::declare(&table, &mut memory);
        let step = StepMemory {
            batch: memory.declare("batch", layout.words() * micro_batches),
            inputs: memory.declare("inputs", layout.words()),
            step: memory.declare("step", adamw::STEP_WORDS),
            metrics: memory.declare("metrics", METRICS_WORDS),
            positions: memory.declare("positions", shape.time * words_a_position(model)),
        };
        let mut plan = Plan::new(target);
        let loss_scale = (model.precision == Precision::Mixed).then(|| {
            let metrics = plan.persistent(&memory, step.metrics);
            loss_scale::State(metrics.slice(SCALE_WORD, loss_scale::WORDS))
        });
        let inputs = layout.bind(plan.persistent(&memory, step.inputs));
        let positions = match inputs.positions {
            Some((numbers, _)) => PositionTable::Learned(numbers),
            None => PositionTable::of(model, plan.persistent(&memory, step.positions), shape.time),
        };
        let mut builder = Builder {
            transformer: Transformer::new(model, &table),
            weights: table.bind(&mut plan, &memory, &parameters.parameters),
            gradients: table.bind(&mut plan, &memory, &parameters.gradients),
            inputs,
            pass_shape: PassShape {
                batch: shape,
                positions,
                documents: inputs.documents,
                activation_checkpointing: train.activation_checkpointing,
            },
            loss: plan.persistent(&memory, step.metrics).slice(LOSS_WORD, 1),
            precision: model.precision,
            loss_scale: loss_scale.map(|state| state.scale()),
            plan,
        };
        let first = builder.forward_backward(false);
        let next = builder.forward_backward(true);
        let evaluate = builder.evaluate();
        let update = push_update(
            &mut builder.plan,
            &memory,
            (&table, &parameters),
            &step,
            train,
            loss_scale,
        );
        Self {
            plan: builder.plan,
            memory,
            table,
            parameters,
            step,
            sections: Sections {
                first,
                next,
                update,
                evaluate,
            },
            layout,
            shape,
            micro_batches,
            is_mixed: model.precision == Precision::Mixed,
        }
    }
}

impl StepPlan {
    /// Bytes of device memory by part: each persistent buffer, what the plan's dispatches share,
    /// and copies on their way between host and device.
    pub fn device_bytes(&self) -> Vec<(String, u64)> {
        let uploads = 2 * self.layout.words() * self.micro_batches;
        self.plan.device_bytes(&self.memory, uploads)
    }
}

/// Pushes the sections that read tokens.
struct Builder {
    plan: Plan,
    transformer: Transformer,
    weights: Vec<Vec<Tensor>>,
    gradients: Vec<Vec<Tensor>>,
    inputs: Inputs,
    pass_shape: PassShape,
    loss: Tensor,
    precision: Precision,
    /// What gradients are multiplied with before they are rounded, if they are.
    loss_scale: Option<Tensor>,
}

impl Builder {
    fn forward_backward(&mut self, accumulate: bool) -> SectionId {
        let section = self.plan.section();
        let mut pass = Pass::new(
            &mut self.plan,
            &self.weights,
            &self.gradients,
            accumulate,
            self.precision,
        );
        let forward = self
            .transformer
            .forward(&mut pass, self.inputs.tokens, &self.pass_shape);
        let loss = LossTarget {
            total: self.loss,
            scale: self.inputs.scale,
            accumulate,
            gradient_factor: self.loss_scale,
        };
        let shape = &self.pass_shape;
        self.transformer
            .loss_and_backward(&mut pass, &self.inputs, &forward, shape, loss);
        section
    }

    fn evaluate(&mut self) -> SectionId {
        let section = self.plan.section();
        let mut pass = Pass::new(&mut self.plan, &self.weights, &[], false, self.precision);
        let forward = self
            .transformer
            .forward(&mut pass, self.inputs.tokens, &self.pass_shape);
        let loss = LossTarget {
            total: self.loss,
            scale: self.inputs.scale,
            accumulate: false,
            gradient_factor: None,
        };
        self.transformer
            .loss(&mut pass, forward.residual, self.inputs.targets, loss);
        section
    }
}

fn push_update(
    plan: &mut Plan,
    memory: &Memory,
    (table, parameters): (&ParameterTable, &ParameterMemory),
    step: &StepMemory,
    train: &TrainConfig,
    loss_scale: Option<loss_scale::State>,
) -> SectionId {
    let section = plan.section();
    plan.set_scope("update");
    let gradients: Vec<Tensor> = parameters
        .gradients
        .iter()
        .map(|id| plan.persistent(memory, id))
        .collect();
    let norm_and_clip = plan.persistent(memory, step.metrics).slice(NORM_WORD, 2);
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    let max_norm = if train.grad_clip > 0.0 {
        train.grad_clip as f32
    } else {
        f32::MAX
    };
    let squares = grad_norm::squares(plan, &gradients);
    let step_words = plan
        .persistent(memory, step.step)
        .slice(0, adamw::STEP_WORDS);
    let step_words = match loss_scale {
        None => {
            grad_norm::clip(plan, squares, norm_and_clip, max_norm);
            step_words
        }
        Some(state) => {
            let settings = adamw_settings(train);
            let inputs = (squares, step_words);
            loss_scale::update(plan, inputs, norm_and_clip, state, max_norm, &settings)
        }
    };
    for (buffer, first, words, decays) in table.decay_ranges() {
        let mut range = |ids: &FlatIds| plan.persistent(memory, ids.of(buffer)).slice(first, words);
        let tensors = AdamwTensors {
            parameter: range(&parameters.parameters),
            gradient: range(&parameters.gradients),
            moment1: range(&parameters.moment1),
            moment2: range(&parameters.moment2),
        };
        let mut settings = adamw_settings(train);
        if !decays {
            settings.weight_decay = 0.0;
        }
        adamw::update(plan, tensors, step_words, norm_and_clip, &settings);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::gpu::AdapterClass;

    /// Bytes of the scratch tensors, and of everything, of a step of eight sequences on a GPU.
    fn bytes(settings: &Settings, precision: Precision) -> [u64; 2] {
        let model = ModelConfig {
            precision,
            ..settings.model(None).unwrap()
        };
        let target = Target {
            max_binding_words: 1 << 29,
            ..Target::portable(AdapterClass::Gpu)
        };
        let parts = StepPlan::new(&model, &settings.train().unwrap(), target).device_bytes();
        let scratch = parts.iter().find(|(name, _)| name == "scratch").unwrap().1;
        [scratch, parts.iter().map(|(_, bytes)| bytes).sum()]
    }

    /// Half of the activations, beside the halves of all matrices.
    #[test]
    fn mixed_precision_takes_less_memory() {
        let medium = Settings {
            vocab_size: Some(10_000),
            context_length: 256,
            d_model: 512,
            num_heads: 16,
            d_ff: Some(1344),
            ..Settings::default()
        };
        let large = Settings {
            vocab_size: Some(50_257),
            context_length: 1024,
            d_model: 768,
            num_layers: 12,
            num_heads: 12,
            d_ff: Some(2048),
            ..Settings::default()
        };
        for settings in [medium, large] {
            let [f32, mixed] = [Precision::F32, Precision::Mixed].map(|p| bytes(&settings, p));
            assert!(100 * mixed[0] < 87 * f32[0], "{mixed:?} of {f32:?}");
            assert!(mixed[1] < f32[1], "{mixed:?} of {f32:?}");
        }
    }

    /// On a GPU each one costs microseconds, of which small models have no more than that to do.
    #[test]
    fn a_step_of_a_small_model_is_few_dispatches() {
        let small = Settings {
            vocab_size: Some(1024),
            context_length: 128,
            d_model: 128,
            num_heads: 4,
            d_ff: Some(344),
            ..Settings::default()
        };
        for (precision, at_most) in [(Precision::F32, 110), (Precision::Mixed, 110)] {
            let model = ModelConfig {
                precision,
                ..small.model(None).unwrap()
            };
            let target = Target::portable(AdapterClass::Gpu);
            let step = StepPlan::new(&model, &small.train().unwrap(), target);
            let Sections { first, update, .. } = step.sections;
            let dispatches = [first, update].map(|section| step.plan.dispatches(section));
            let all: Vec<&str> = dispatches
                .into_iter()
                .flatten()
                .map(|d| &*d.label)
                .collect();
            assert!(
                all.len() <= at_most,
                "{} in {precision:?}: {all:#?}",
                all.len()
            );
        }
    }
}
