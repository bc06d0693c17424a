//! A training step on the device: uploads a batch, replays the plan, brings the metrics back late.

use std::time::Instant;

use super::step_plan::{self, LOSS_WORD, METRICS_WORDS, NORM_WORD, SCALE_WORD, StepPlan};
use crate::config::{ModelConfig, TrainConfig};
use crate::data::dataset::Batch;
use crate::gpu::executable::check_limits;
use crate::gpu::recorder::Recorder;
use crate::gpu::{Buffers, Device, DispatchTime, Executable, GpuError, Readback};
use crate::kernels::adamw::{self, AdamwSettings};
use crate::kernels::loss_scale::{LossScale, SMALLEST_SCALE};
use crate::model::InputLayout;
use crate::model::positions::position_words;
use crate::model::score::Score;
use crate::weights::{EngineState, FlatIds, HostTensor, Parameter, ParameterTable, Role};

/// What a step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// Mean loss of the batch in nats, before the update.
    pub loss: f32,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f32,
    /// In mixed precision, the state of the loss scale after the step.
    pub loss_scale: Option<LossScale>,
}

impl StepMetrics {
    /// The loss scale after a step that changed nothing else, since its gradients were not finite.
    pub fn skipped(&self) -> Option<LossScale> {
        self.loss_scale.filter(|_| !self.grad_norm.is_finite())
    }

    /// What is no finite number and can be mended by no smaller loss scale: its name and its value.
    pub fn fault(&self) -> Option<(&'static str, f32)> {
        if !self.loss.is_finite() {
            return Some(("loss", self.loss));
        }
        let mendable = |state: LossScale| state.scale > SMALLEST_SCALE;
        let is_fault = !self.grad_norm.is_finite() && !self.skipped().is_some_and(mendable);
        is_fault.then_some(("gradient norm", self.grad_norm))
    }
}

/// Which of the four copies of the parameters' shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The values.
    Parameters,
    /// The gradients of the last step, before clipping.
    Gradients,
    /// First moments.
    Moment1,
    /// Second moments.
    Moment2,
}

/// Bytes of parameters that may be on their way to the device at once.
const MOST_ON_THEIR_WAY: usize = 128 << 20;

/// A batch as the device reads it: the inputs of its micro-batches, one after the other.
#[derive(Clone, Debug)]
pub struct PackedBatch {
    words: Vec<u32>,
}

/// Packs batches for one engine, on any thread.
#[derive(Clone, Copy, Debug)]
pub struct Packer {
    layout: InputLayout,
    rows: usize,
}

impl Packer {
    /// Cuts a batch into micro-batches, and sorts the positions of each by token. The loss is the mean over the
    /// targets of the whole batch that count.
    ///
    /// # Panics
    /// If the batch is no whole number of micro-batches: a bug of the caller.
    pub fn pack(&self, batch: &Batch) -> PackedBatch {
        let scale = InputLayout::mean_scale(&batch.targets);
        let starts = (0..batch.tokens.len()).step_by(self.rows);
        let micro_batch = |first: usize| {
            let rows = first..first + self.rows;
            let documents = batch.documents.as_ref().map(|all| &all[rows.clone()]);
            let (tokens, targets) = (&batch.tokens[rows.clone()], &batch.targets[rows]);
            self.layout.pack(tokens, targets, documents, scale)
        };
        PackedBatch {
            words: starts.flat_map(micro_batch).collect(),
        }
    }
}

/// A model in training on a device.
pub struct Engine {
    device: Device,
    plan: StepPlan,
    buffers: Buffers,
    executable: Executable,
    readback: Readback,
    adamw: AdamwSettings,
    /// When the device began the oldest pending step, as far as the host can tell.
    step_started: Instant,
}

impl Engine {
    /// Plans the steps and allocates everything; parameters, gradients and moments start at zero.
    ///
    /// # Errors
    /// When the model does not fit the device or a shader does not compile.
    pub fn new(device: Device, model: &ModelConfig, train: &TrainConfig) -> Result<Self, GpuError> {
        let plan = StepPlan::new(model, train, device.target());
        Self::of_plan(device, model, train, plan)
    }

    /// [`Engine::new`], which goes on where another engine of the same model and settings was when it
    /// gave `state`.
    ///
    /// # Errors
    /// As those of [`Engine::new`].
    ///
    /// # Panics
    /// As [`Engine::restore`].
    pub fn from_state(
        device: Device,
        model: &ModelConfig,
        train: &TrainConfig,
        state: &EngineState,
    ) -> Result<Self, GpuError> {
        let engine = Self::new(device, model, train)?;
        engine.restore(state);
        Ok(engine)
    }

    /// An engine for steps that are planned already.
    ///
    /// # Errors
    /// As those of [`Engine::new`].
    pub fn of_plan(
        device: Device,
        model: &ModelConfig,
        train: &TrainConfig,
        plan: StepPlan,
    ) -> Result<Self, GpuError> {
        check_limits(&plan.plan, &device)?;
        let buffers = plan.memory.allocate(&device)?;
        let executable = Executable::compile(&plan.plan, &device, &buffers)?;
        let positions = position_words(model, 0..model.context_length);
        buffers.write(&device, plan.step.positions, 0, &positions);
        let adamw = step_plan::adamw_settings(train);
        let readback = Readback::new(METRICS_WORDS);
        let first = LossScale::default().to_words();
        buffers.write(&device, plan.step.metrics, SCALE_WORD, &first);
        Ok(Self {
            device,
            plan,
            buffers,
            executable,
            readback,
            adamw,
            step_started: Instant::now(),
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of device memory that its plan takes.
    pub fn planned_bytes(&self) -> u64 {
        self.plan
            .device_bytes()
            .iter()
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// The parameters' names, shapes and places.
    pub fn table(&self) -> &ParameterTable {
        &self.plan.table
    }

    /// Fills the parameters with their initial values.
    pub fn initialise(&self, seed: u64) {
        for index in 0..self.plan.table.iter().count() {
            self.write(
                Part::Parameters,
                index,
                &self.plan.table.initial_values(index, seed),
            );
        }
    }

    /// What turns batches into the form that steps take.
    pub fn packer(&self) -> Packer {
        Packer {
            layout: self.plan.layout,
            rows: self.plan.shape.rows(),
        }
    }

    /// Submits step `t`, counted from 1, on a batch of `batch_size` windows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn submit_step(
        &mut self,
        batch: &PackedBatch,
        learning_rate: f64,
        t: u64,
    ) -> Result<(), GpuError> {
        self.upload_step(batch, learning_rate, t);
        self.executable.submit_and_read(
            &self.device,
            &mut self.readback,
            (&self.buffers, self.plan.step.metrics),
            |recorder| record_step(&self.plan, &self.buffers, recorder),
        )
    }

    /// [`Engine::submit_step`], with the time of each dispatch; waits for all of them.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile_step(
        &mut self,
        batch: &PackedBatch,
        learning_rate: f64,
        t: u64,
    ) -> Result<Vec<DispatchTime>, GpuError> {
        self.upload_step(batch, learning_rate, t);
        let times = self.executable.submit_profiled(&self.device, |recorder| {
            record_step(&self.plan, &self.buffers, recorder)
        })?;
        self.executable.submit_and_read(
            &self.device,
            &mut self.readback,
            (&self.buffers, self.plan.step.metrics),
            |_| (),
        )?;
        Ok(times)
    }

    fn upload_step(&mut self, batch: &PackedBatch, learning_rate: f64, t: u64) {
        if self.pending() == 0 {
            self.step_started = Instant::now();
        }
        let step = self.plan.step;
        self.buffers
            .write(&self.device, step.batch, 0, &batch.words);
        let step_words = adamw::step_words(&self.adamw, learning_rate, t);
        self.buffers.write(&self.device, step.step, 0, &step_words);
    }

    /// Steps that were submitted and whose metrics were not taken yet.
    pub fn pending(&self) -> usize {
        self.readback.pending()
    }

    /// Metrics of the oldest pending step, waiting for it; `None` if there is none.
    ///
    /// # Errors
    /// When the device fails.
    pub fn take_metrics(&mut self) -> Result<Option<StepMetrics>, GpuError> {
        let Some(metrics) = self.take()? else {
            return Ok(None);
        };
        let now = Instant::now();
        let seconds = (now - self.step_started).as_secs_f64();
        self.step_started = now;
        self.device.note_speed(self.step_work(), seconds);
        Ok(Some(metrics))
    }

    fn take(&mut self) -> Result<Option<StepMetrics>, GpuError> {
        let words: Option<Vec<u32>> = self.readback.take(&self.device)?;
        Ok(words.map(|w| StepMetrics {
            loss: f32::from_bits(w[LOSS_WORD]),
            grad_norm: f32::from_bits(w[NORM_WORD]),
            loss_scale: self.plan.is_mixed.then(|| loss_scale_of(&w)),
        }))
    }

    fn step_work(&self) -> u64 {
        let sections = self.plan.sections;
        let further = self.plan.micro_batches as u64 - 1;
        self.executable.work(sections.first)
            + further * self.executable.work(sections.next)
            + self.executable.work(sections.update)
    }

    /// Mean loss in nats over the targets of `passes`, each of at most one pass's windows; no
    /// step may be pending.
    ///
    /// # Errors
    /// Those of `passes`, and when the device fails.
    ///
    /// # Panics
    /// If a step is pending: a bug of the caller.
    pub fn evaluate<E: From<GpuError>>(
        &mut self,
        passes: impl Iterator<Item = Result<Batch, E>>,
    ) -> Result<f64, E> {
        assert_eq!(self.pending(), 0, "metrics of a step are still to be taken");
        let score = Score {
            device: &self.device,
            buffers: &self.buffers,
            executable: &self.executable,
            section: self.plan.sections.evaluate,
            layout: self.plan.layout,
            inputs: self.plan.step.inputs,
            sum: self.plan.step.metrics,
        };
        score.mean_loss(&mut self.readback, passes)
    }

    /// Windows that one pass of [`Engine::evaluate`] takes.
    pub fn windows_per_pass(&self) -> usize {
        self.plan.shape.batch
    }

    /// Reads one tensor, by its place in the table.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the part leaves out that parameter, since it stays as it is.
    pub fn read(&self, part: Part, index: usize) -> Result<HostTensor, GpuError> {
        let (ids, parameter) = self.place(part, index);
        parameter.read(&self.device, &self.buffers, ids)
    }

    /// Writes one tensor, by its place in the table.
    ///
    /// # Panics
    /// If there are more or fewer values than the tensor has, or the part leaves it out.
    pub fn write(&self, part: Part, index: usize, tensor: &HostTensor) {
        let (ids, parameter) = self.place(part, index);
        parameter.write(&self.device, &self.buffers, ids, tensor);
    }

    /// Everything that training changes, for [`Engine::from_state`] or a checkpoint; no step may be
    /// pending.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<EngineState, GpuError> {
        self.state_of(&(0..self.plan.table.iter().count()).collect::<Vec<_>>())
    }

    /// [`Engine::state`] with those parameters alone that a checkpoint holds: all, or adapters where they are what
    /// is trained.
    ///
    /// # Errors
    /// When the device fails.
    pub fn saved_state(&self) -> Result<EngineState, GpuError> {
        match self.plan.table.is_adapted() {
            true => self.state_of(&self.trained()),
            false => self.state(),
        }
    }

    fn state_of(&self, parameters: &[usize]) -> Result<EngineState, GpuError> {
        let read = |part: Part, indices: &[usize]| -> Result<Vec<HostTensor>, GpuError> {
            indices
                .iter()
                .map(|&index| self.read(part, index))
                .collect()
        };
        let trained = self.trained();
        let moments = [Part::Moment1, Part::Moment2].map(|part| read(part, &trained));
        let [first, second] = moments;
        let read_metrics = || {
            self.buffers
                .read(&self.device, self.plan.step.metrics, 0, METRICS_WORDS)
        };
        let metrics: Option<Vec<u32>> = self.plan.is_mixed.then(read_metrics).transpose()?;
        Ok(EngineState {
            parameters: read(Part::Parameters, parameters)?,
            moments: Some([first?, second?]),
            loss_scale: metrics.map(|words| loss_scale_of(&words)),
        })
    }

    /// Fills the parameters with the values that `value` gives for each and its place in the table, a few of which
    /// are in the host's memory at once.
    ///
    /// # Errors
    /// Those of `value`, and when the device fails.
    ///
    /// # Panics
    /// As [`Engine::write`].
    pub fn fill<E: From<GpuError>>(
        &self,
        mut value: impl FnMut(usize, &Parameter) -> Result<HostTensor, E>,
    ) -> Result<(), E> {
        let mut on_their_way = 0;
        for (index, parameter) in self.plan.table.iter().enumerate() {
            let tensor = value(index, parameter)?;
            self.write(Part::Parameters, index, &tensor);
            on_their_way += tensor.bytes().len();
            if on_their_way > MOST_ON_THEIR_WAY {
                self.buffers.flush(&self.device)?;
                on_their_way = 0;
            }
        }
        Ok(())
    }

    /// Takes over what [`Engine::state`] gave, moments where it has them.
    ///
    /// # Panics
    /// If the state is of another model: a bug of the caller.
    pub fn restore(&self, state: &EngineState) {
        for (index, tensor) in state.parameters.iter().enumerate() {
            self.write(Part::Parameters, index, tensor);
        }
        self.restore_progress(state.moments.as_ref(), state.loss_scale);
    }

    /// Takes over the moments and the loss scale of a state, as far as there are some.
    ///
    /// # Panics
    /// As [`Engine::restore`].
    pub fn restore_progress(
        &self,
        moments: Option<&[Vec<HostTensor>; 2]>,
        loss_scale: Option<LossScale>,
    ) {
        if let Some(scale) = loss_scale {
            let metrics = self.plan.step.metrics;
            let words = scale.to_words();
            self.buffers
                .write(&self.device, metrics, SCALE_WORD, &words);
        }
        for (part, tensors) in [Part::Moment1, Part::Moment2]
            .iter()
            .zip(moments.into_iter().flatten())
        {
            for (&index, tensor) in self.trained().iter().zip(tensors) {
                self.write(*part, index, tensor);
            }
        }
    }

    /// Places in the table of the parameters that are trained.
    fn trained(&self) -> Vec<usize> {
        let parameters = self.plan.table.iter().enumerate();
        let trained = parameters.filter(|(_, p)| p.role == Role::Trainable);
        trained.map(|(index, _)| index).collect()
    }

    fn place(&self, part: Part, index: usize) -> (&FlatIds, &Parameter) {
        let memory = &self.plan.parameters;
        let ids = match part {
            Part::Parameters => &memory.parameters,
            Part::Gradients => &memory.gradients,
            Part::Moment1 => &memory.moment1,
            Part::Moment2 => &memory.moment2,
        };
        let parameter = self.plan.table.iter().nth(index);
        (ids, parameter.expect("an index of the table"))
    }
}

/// The state of the loss scale among the words of the metrics.
fn loss_scale_of(metrics: &[u32]) -> LossScale {
    let words = std::array::from_fn(|i| metrics[SCALE_WORD + i]);
    LossScale::from_words(words)
}

fn record_step(plan: &StepPlan, buffers: &Buffers, recorder: &mut Recorder<'_>) {
    let (step, sections) = (plan.step, plan.sections);
    let words = plan.layout.words();
    for m in 0..plan.micro_batches {
        let from = (step.batch, m * words);
        recorder.copy(buffers, from, (step.inputs, 0), words);
        recorder.replay(if m == 0 {
            sections.first
        } else {
            sections.next
        });
    }
    recorder.replay(sections.update);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_that_a_smaller_scale_may_mend_are_no_fault() {
        let at = |scale| {
            Some(LossScale {
                scale,
                ..LossScale::default()
            })
        };
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for (loss, grad_norm, loss_scale, fault, skipped) in [
            (1.0, 1.0, None, None, false),
            (1.0, inf, None, Some("gradient norm"), false),
            (nan, 1.0, None, Some("loss"), false),
            (1.0, 1.0, at(2.0), None, false),
            (1.0, inf, at(2.0), None, true),
            (1.0, nan, at(SMALLEST_SCALE), Some("gradient norm"), true),
            (nan, nan, at(2.0), Some("loss"), true),
        ] {
            let metrics = StepMetrics {
                loss,
                grad_norm,
                loss_scale,
            };
            assert_eq!(metrics.fault().map(|(what, _)| what), fault, "{metrics:?}");
            assert_eq!(metrics.skipped().is_some(), skipped, "{metrics:?}");
        }
    }
}
