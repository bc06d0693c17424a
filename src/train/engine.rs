//! A training step on the device: uploads a batch, replays the plan, brings the metrics back late.

use std::time::Instant;

use super::step_plan::{self, LOSS_WORD, METRICS_WORDS, NORM_WORD, StepPlan};
use crate::config::{ModelConfig, TrainConfig};
use crate::data::dataset::Batch;
use crate::gpu::executable::check_limits;
use crate::gpu::recorder::Recorder;
use crate::gpu::{Buffers, Device, DispatchTime, Executable, GpuError, PersistentId, Readback};
use crate::kernels::adamw::{self, AdamwSettings};
use crate::kernels::cross_entropy::IGNORED;
use crate::model::parameters::Parameter;
use crate::model::{InputLayout, ParameterTable, Transformer};

/// What a step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// Mean loss of the batch in nats, before the update.
    pub loss: f32,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f32,
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
    /// Cuts a batch into micro-batches, and sorts the positions of each by token.
    ///
    /// # Panics
    /// If the batch is no whole number of micro-batches: a bug of the caller.
    pub fn pack(&self, batch: &Batch) -> PackedBatch {
        let micro_batches = batch
            .tokens
            .chunks(self.rows)
            .zip(batch.targets.chunks(self.rows));
        PackedBatch {
            words: micro_batches
                .flat_map(|(tokens, targets)| self.layout.pack(tokens, targets))
                .collect(),
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
        check_limits(&plan.plan, &device)?;
        let buffers = plan.memory.allocate(&device)?;
        let executable = Executable::compile(&plan.plan, &device, &buffers)?;
        let angles = Transformer::rope_angles(model, model.context_length);
        buffers.write(&device, plan.step.angles, 0, &angles);
        let adamw = step_plan::adamw_settings(train);
        let readback = Readback::new(METRICS_WORDS);
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
        let words: Option<Vec<f32>> = self.readback.take(&self.device)?;
        Ok(words.map(|w| StepMetrics {
            loss: w[LOSS_WORD],
            grad_norm: w[NORM_WORD],
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
        let rows = self.plan.shape.rows();
        let (mut total, mut count) = (0.0, 0);
        for batch in passes {
            let mut batch = batch?;
            count += batch.targets.len();
            batch.tokens.resize(rows, 0);
            batch.targets.resize(rows, IGNORED);
            let packed = self.plan.layout.pack(&batch.tokens, &batch.targets);
            self.buffers
                .write(&self.device, self.plan.step.inputs, 0, &packed);
            let evaluate = self.plan.sections.evaluate;
            self.executable.submit_and_read(
                &self.device,
                &mut self.readback,
                (&self.buffers, self.plan.step.metrics),
                |recorder| recorder.replay(evaluate),
            )?;
            // The next pass runs while this one's sum is on its way.
            if self.pending() > 1 {
                total += self.take()?.map_or(0.0, |m| f64::from(m.loss));
            }
        }
        while let Some(metrics) = self.take()? {
            total += f64::from(metrics.loss);
        }
        Ok(total / count as f64)
    }

    /// Windows that one pass of [`Engine::evaluate`] takes.
    pub fn windows_per_pass(&self) -> usize {
        self.plan.shape.batch
    }

    /// Reads one tensor, by its place in the table.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self, part: Part, index: usize) -> Result<Vec<f32>, GpuError> {
        let (buffers, parameter) = self.place(part, index);
        let mut values = Vec::with_capacity(parameter.len());
        for p in &parameter.parts {
            let (id, len) = (buffers[p.buffer], p.rows * parameter.cols);
            values.extend(self.buffers.read::<f32>(&self.device, id, p.offset, len)?);
        }
        Ok(values)
    }

    /// Writes one tensor, by its place in the table.
    ///
    /// # Panics
    /// If there are more or fewer values than the tensor has.
    pub fn write(&self, part: Part, index: usize, values: &[f32]) {
        let (buffers, parameter) = self.place(part, index);
        parameter.write(&self.device, &self.buffers, buffers, values);
    }

    fn place(&self, part: Part, index: usize) -> (&[PersistentId], &Parameter) {
        let buffers = match part {
            Part::Parameters => &self.plan.parameters.parameters,
            Part::Gradients => &self.plan.parameters.gradients,
            Part::Moment1 => &self.plan.parameters.moment1,
            Part::Moment2 => &self.plan.parameters.moment2,
        };
        let parameter = self
            .plan
            .table
            .iter()
            .nth(index)
            .expect("an index of the table");
        (buffers, parameter)
    }
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
