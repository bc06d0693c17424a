//! The training loop, and everything around it that makes a run safe to stop and go on.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::engine::{Engine, StepMetrics};
use super::evaluate::mean_loss;
use super::logdir::ADAPTER_FOLDER;
use super::metrics::{Metrics, TrainRecord};
use super::prefetch::Prefetch;
use super::profile::Profiler;
use super::{TrainError, schedule};
use crate::Error;
use crate::checkpoint::{self, Base, Checkpoint, CheckpointError, Metadata};
use crate::config::TrainConfig;
use crate::data::batches::BatchOrder;
use crate::data::dataset::Dataset;
use crate::files;
use crate::interop::InteropError;
use crate::kernels::loss_scale::LossScale;
use crate::tuner::Record;
use crate::weights::EngineState;

/// The iteration of a run that is profiled: shaders are compiled and memory is touched by then.
const PROFILED_ITERATION: u64 = 3;

/// What a run does besides the mathematics.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder of the run's files.
    pub logdir: PathBuf,
    /// Updates between evaluations; 0 never.
    pub eval_interval: u64,
    /// Batches of an evaluation; 0 all.
    pub eval_iters: u64,
    /// Iterations between lines of metrics; 0 never.
    pub log_interval: u64,
    /// Updates between checkpoints; 0 only the last.
    pub checkpoint_interval: u64,
    /// Numbered checkpoints to keep; 0 all.
    pub keep_checkpoints: u64,
    /// Hash of the tokenizer, for checkpoints and metrics.
    pub tokenizer_hash: Option<String>,
    /// Entropy of the data in nats a token, where it is known.
    pub floor: Option<f64>,
    /// Where a trace of one step goes.
    pub profile: Option<PathBuf>,
    /// The model that adapters are trained of, if they are.
    pub base: Option<Base>,
    /// The resolved settings, as `config.json` and checkpoints keep them.
    pub config: Map<String, Value>,
}

/// A run: a model on a device, its data, and its files.
pub struct Trainer {
    engine: Engine,
    train: TrainConfig,
    options: RunOptions,
    data: Arc<Dataset>,
    validation: Option<Dataset>,
    metrics: Metrics,
    state: Metadata,
    /// Iterations whose metrics have come back.
    reported: u64,
    /// Reported iterations that the caller has not seen.
    unseen: Vec<TrainRecord>,
    pace: Pace,
    profiler: Option<Profiler>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All iterations are done.
    Done,
    /// It was asked to stop, finished its iteration and wrote a checkpoint.
    Interrupted,
}

impl Trainer {
    /// Prepares a run that starts where `resume` left off, or anew with the engine's parameters
    /// as they are.
    ///
    /// # Errors
    /// When `logdir` cannot be written, or the checkpoint does not fit.
    pub fn new(
        engine: Engine,
        train: TrainConfig,
        options: RunOptions,
        (data, validation): (Dataset, Option<Dataset>),
        resume: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let mut state = Metadata {
            iteration: 0,
            config: options.config.clone(),
            tokenizer_hash: options.tokenizer_hash.clone(),
            train_loss: None,
            val_loss: None,
            best_val_loss: None,
            base: options.base.clone(),
            tuning: Some(Record::of(engine.device())),
        };
        if let Some(checkpoint) = resume {
            let config = engine.table().config();
            engine.fill(|_, p| -> Result<_, Error> {
                let tensor = checkpoint.value(config, p)?;
                p.expect_fitting(&tensor)?;
                Ok(tensor)
            })?;
            let (moments, loss_scale) = checkpoint.progress(engine.table())?;
            engine.restore_progress(Some(&moments), loss_scale);
            let before = checkpoint.metadata()?;
            state.iteration = before.iteration;
            state.train_loss = before.train_loss;
            state.val_loss = before.val_loss;
            state.best_val_loss = before.best_val_loss;
            let base = before.base.clone().zip(checkpoint.base_path());
            state.base = base.map(|(base, found)| base.moved_to(found));
            if state.iteration >= train.max_iters {
                return Err(TrainError::AlreadyDone {
                    done: state.iteration,
                }
                .into());
            }
        }
        let folder = options.logdir.join("checkpoints");
        let unwritable = |source| TrainError::Unwritable {
            path: folder.clone(),
            source,
        };
        files::create_folder(&folder).map_err(unwritable)?;
        write_config(&options)?;
        let mut metrics = Metrics::open(
            &options.logdir,
            state.iteration,
            train.max_iters,
            options.floor,
        )?;
        metrics.run(describe_run(&engine, &options))?;
        let reported = state.iteration;
        let profiled = (reported + PROFILED_ITERATION).min(train.max_iters - 1);
        let profile = options.profile.clone();
        Ok(Self {
            profiler: profile.map(|path| Profiler::new(path, profiled)),
            engine,
            train,
            options,
            data: Arc::new(data),
            validation,
            metrics,
            state,
            reported,
            unseen: Vec::new(),
            pace: Pace::from_now(),
        })
    }

    /// Runs to the last iteration, or until `stop` is set or `on_step`, which sees each iteration once
    /// its figures have come back, wants no more.
    ///
    /// # Errors
    /// When the device, the data or the disk fails, or the loss is no number any more.
    pub fn run(
        &mut self,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(&TrainRecord) -> ControlFlow<()>,
    ) -> Result<Ending, Error> {
        let order = BatchOrder::new(
            &self.data,
            self.train.sampling,
            self.train.seed,
            self.train.batch_size,
        );
        let iterations = self.state.iteration..self.train.max_iters;
        let packer = self.engine.packer();
        let batches = Prefetch::start(self.data.clone(), order, packer, iterations.clone());
        self.pace = Pace::from_now();
        for iteration in iterations {
            self.step(&batches, iteration)?;
            self.state.iteration = iteration + 1;
            if self.is_due(self.options.eval_interval) {
                self.evaluate()?;
            }
            let enough = self.show_steps(on_step).is_break();
            if (stop.load(Ordering::Relaxed) || enough) && !self.is_last() {
                self.checkpoint()?;
                let _ = self.show_steps(on_step);
                self.metrics.finish()?;
                return Ok(Ending::Interrupted);
            }
            if self.is_due(self.options.checkpoint_interval) || self.is_last() {
                self.checkpoint()?;
            }
        }
        let _ = self.show_steps(on_step);
        self.metrics.finish()?;
        Ok(Ending::Done)
    }

    /// Shows the iterations that were reported since the last time.
    fn show_steps(
        &mut self,
        on_step: &mut dyn FnMut(&TrainRecord) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut unseen = std::mem::take(&mut self.unseen).into_iter();
        unseen.try_for_each(|record| on_step(&record))
    }

    /// Submits one iteration, and reports the one before it.
    fn step(&mut self, batches: &Prefetch, iteration: u64) -> Result<(), Error> {
        let start = Instant::now();
        let batch = batches.next_batch()?;
        self.span("wait for the batch", start);
        let learning_rate = schedule::learning_rate(&self.train, iteration);
        if let Some(profiler) = self.profiler.take_if(|p| p.is_due(iteration)) {
            self.report(0)?;
            let start = Instant::now();
            let times = self
                .engine
                .profile_step(&batch, learning_rate, iteration + 1)?;
            let dearest = profiler.finish(start, &times)?;
            tracing::info!("device time of iteration {iteration}:\n{dearest}");
            return Ok(());
        }
        let start = Instant::now();
        self.engine
            .submit_step(&batch, learning_rate, iteration + 1)?;
        self.span("submit", start);
        let start = Instant::now();
        self.report(1)?;
        self.span("wait for the step before", start);
        Ok(())
    }

    fn span(&mut self, name: &'static str, start: Instant) {
        if let Some(profiler) = &mut self.profiler {
            profiler.span(name, start);
        }
    }

    /// What the run knows of itself by now.
    pub fn state(&self) -> &Metadata {
        &self.state
    }

    fn is_last(&self) -> bool {
        self.state.iteration == self.train.max_iters
    }

    /// Whether something of this interval is due after the update just submitted.
    fn is_due(&self, interval: u64) -> bool {
        interval > 0 && (self.state.iteration.is_multiple_of(interval) || self.is_last())
    }

    /// Reports finished iterations until at most `pending` are left on the device: one while the
    /// loop runs, so that it never waits for the step it has just submitted.
    fn report(&mut self, pending: usize) -> Result<(), Error> {
        while self.engine.pending() > pending {
            if let Some(metrics) = self.engine.take_metrics()? {
                self.report_one(metrics)?;
            }
        }
        Ok(())
    }

    fn report_one(&mut self, metrics: StepMetrics) -> Result<(), Error> {
        let StepMetrics {
            loss,
            grad_norm,
            loss_scale,
        } = metrics;
        let iteration = self.reported;
        self.reported += 1;
        if let Some((what, value)) = metrics.fault() {
            return Err(TrainError::NotFinite {
                what,
                value,
                iteration,
                checkpoints: self.options.logdir.join("checkpoints"),
            }
            .into());
        }
        if let Some(LossScale {
            scale,
            skipped_steps,
            ..
        }) = metrics.skipped()
        {
            tracing::warn!(
                "iteration {iteration} was skipped, since its gradients do not fit f16; the loss scale \
                 is {scale} from here on ({skipped_steps} skipped so far)"
            );
        }
        let tokens = (self.train.batch_size * self.data.context_length()) as u64;
        let record = TrainRecord {
            iteration,
            tokens: (iteration + 1) * tokens,
            loss,
            learning_rate: schedule::learning_rate(&self.train, iteration),
            grad_norm,
            loss_scale,
            tokens_per_s: self.pace.finished(tokens),
        };
        let interval = self.options.log_interval;
        self.metrics
            .train(&record, interval > 0 && iteration.is_multiple_of(interval))?;
        self.state.train_loss = Some(f64::from(loss));
        self.unseen.push(record);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(), Error> {
        self.report(0)?;
        let Some(validation) = &self.validation else {
            return Ok(());
        };
        let windows = match self.options.eval_iters {
            0 => validation.windows(),
            batches => {
                let wanted = usize::try_from(batches).unwrap_or(usize::MAX);
                validation
                    .windows()
                    .min(wanted.saturating_mul(self.train.batch_size))
            }
        };
        let loss = mean_loss(&mut self.engine, validation, windows)?;
        let iteration = self.state.iteration;
        self.metrics.eval(iteration, loss)?;
        self.state.val_loss = Some(loss);
        if self.state.best_val_loss.is_none_or(|best| loss < best) {
            self.state.best_val_loss = Some(loss);
            self.save("best.safetensors", &self.engine.saved_state()?)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        self.report(0)?;
        let numbered = format!("iter-{:08}.safetensors", self.state.iteration);
        let state = self.engine.saved_state()?;
        self.save(&numbered, &state)?;
        self.save("latest.safetensors", &state)?;
        self.save_adapters(&state)?;
        self.remove_old()
    }

    /// Adapters as other programs take them, where there are some.
    fn save_adapters(&self, state: &EngineState) -> Result<(), Error> {
        let Some(base) = &self.state.base else {
            return Ok(());
        };
        let folder = self.options.logdir.join(ADAPTER_FOLDER);
        let saved = checkpoint::save_adapters(&folder, self.engine.table(), state, base);
        match saved {
            Err(CheckpointError::Interop(InteropError::CannotHold { reason, .. })) => {
                tracing::warn!("no folder of PEFT is written: {reason}");
                Ok(())
            }
            saved => Ok(saved?),
        }
    }

    fn save(&self, name: &str, state: &EngineState) -> Result<(), Error> {
        let path = self.options.logdir.join("checkpoints").join(name);
        Ok(checkpoint::save(
            &path,
            self.engine.table(),
            state,
            &self.state,
        )?)
    }

    fn remove_old(&self) -> Result<(), Error> {
        let folder = self.options.logdir.join("checkpoints");
        let read = || -> std::io::Result<Vec<PathBuf>> {
            let mut numbered = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .unwrap_or_default();
                if name.starts_with("iter-") && name.ends_with(".safetensors") {
                    numbered.push(path);
                }
            }
            numbered.sort();
            Ok(numbered)
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::from(TrainError::Unwritable { path, source })
        };
        let mut numbered = VecDeque::from(read().map_err(failed(&folder))?);
        let keep = usize::try_from(self.options.keep_checkpoints).unwrap_or(usize::MAX);
        while keep > 0 && numbered.len() > keep {
            if let Some(oldest) = numbered.pop_front() {
                std::fs::remove_file(&oldest).map_err(failed(&oldest))?;
            }
        }
        Ok(())
    }
}

/// Finish times of the last few iterations.
#[derive(Debug)]
struct Pace {
    /// The start of the first, in which drivers compile; it is measured from for that one alone.
    started: Instant,
    finished: VecDeque<Instant>,
}

impl Pace {
    fn from_now() -> Self {
        Self {
            started: Instant::now(),
            finished: VecDeque::new(),
        }
    }

    /// Notes that an iteration of `tokens` finished; tokens a second since the oldest known one.
    fn finished(&mut self, tokens: u64) -> f64 {
        let now = Instant::now();
        let (oldest, iterations) = match self.finished.front() {
            Some(&oldest) => (oldest, self.finished.len()),
            None => (self.started, 1),
        };
        self.finished.push_back(now);
        if self.finished.len() > 16 {
            self.finished.pop_front();
        }
        iterations as f64 * tokens as f64 / (now - oldest).as_secs_f64().max(1e-9)
    }
}

fn describe_run(engine: &Engine, options: &RunOptions) -> Map<String, Value> {
    let device = engine.device();
    let mut run = Map::new();
    run.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    run.insert("adapter".to_owned(), device.name().into());
    run.insert("driver".to_owned(), device.driver().into());
    run.insert("backend".to_owned(), device.backend().into());
    run.insert("parameters".to_owned(), engine.table().count().into());
    run.insert("entropy_floor".to_owned(), options.floor.into());
    run.insert("tuning".to_owned(), json!(device.choices().chosen()));
    let tokenizer_hash = options.tokenizer_hash.clone();
    run.insert("tokenizer_hash".to_owned(), tokenizer_hash.into());
    run.insert("config".to_owned(), Value::Object(options.config.clone()));
    run
}

fn write_config(options: &RunOptions) -> Result<(), Error> {
    let path = options.logdir.join("config.json");
    let text = format!("{:#}\n", Value::Object(options.config.clone()));
    files::write(&path, text).map_err(|source| {
        TrainError::Unwritable {
            path: path.clone(),
            source,
        }
        .into()
    })
}
