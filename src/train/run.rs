//! A run from settings to an ending: what can be checked is checked before a device is opened or a file of
//! the run is written, and then the run is started, anew or where a checkpoint left off.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::builtin;
use super::engine::Engine;
use super::logdir::{Claim, Logdir};
use super::metrics::TrainRecord;
use super::step_plan::StepPlan;
use super::trainer::{Ending, RunOptions, Trainer};
use crate::Error;
use serde_json::{Map, Value};

use crate::checkpoint::{Base, Checkpoint, CheckpointError, TOKENIZER_FOLDER};
use crate::config::{ConfigError, ModelConfig, Resolved, Settings, TrainConfig};
use crate::data::dataset::{DataShape, Dataset, is_instruction_data};
use crate::data::tokenizer::{Format, TokenRoles, Tokenizer, TokenizerError};
use crate::gpu::{Device, DeviceOptions};
use crate::interop::{ForeignModel, InteropError};
use crate::tuner;
use crate::weights::ParameterTable;

/// How a run is started, besides its settings.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Take the place of the run that the folder holds.
    pub replace: bool,
    /// Go on where token files, checkpoint and tokenizer do not belong together.
    pub ignore_tokenizer_mismatch: bool,
    /// Keep bounds checks and loop guards in the shaders.
    pub checked: bool,
    /// Where a trace of one early step goes.
    pub profile: Option<PathBuf>,
    /// How kernels are chosen.
    pub tuning: tuner::Options,
}

/// A run whose settings, data, checkpoint and folder are sound and belong together.
#[derive(Debug)]
pub struct Run {
    resolved: Resolved,
    options: StartOptions,
    model: ModelConfig,
    train: TrainConfig,
    data: Dataset,
    validation: Option<Dataset>,
    resume: Option<Checkpoint>,
    initial: Option<Checkpoint>,
    tokenizer_hash: Option<String>,
    /// That of the model, which the run's folder gets.
    kept_tokenizer: Option<(Tokenizer, TokenRoles)>,
    floor: Option<f64>,
    logdir: Logdir,
}

impl Run {
    /// Checks everything that can be checked before a device is opened or a file of the run is written.
    /// Settings without a `train_path` stand for the built-in stories, which are made now; those without
    /// a `logdir` for `runs/latest`. The folder is this process's alone until the run is dropped.
    ///
    /// # Errors
    /// When a setting is wrong, a file is missing or damaged, files do not belong together, or the folder
    /// belongs to another run.
    pub fn prepare(mut resolved: Resolved, options: StartOptions) -> Result<Self, Error> {
        let settings = &mut resolved.settings;
        let train = settings.train()?;
        let logdir = settings
            .logdir
            .get_or_insert_with(|| PathBuf::from("runs/latest"))
            .clone();
        let logdir = Logdir::open(&logdir, claim(settings, &options))?;
        let initial = open_initial(&mut resolved)?;
        let settings = &resolved.settings;
        let floor = if settings.train_path.is_none() {
            expect_no_tokenizer(initial.as_ref())?;
            Some(use_builtin_data(&mut resolved, logdir.path())?)
        } else {
            None
        };
        let settings = &mut resolved.settings;
        let tokenizer = settings
            .tokenizer
            .as_deref()
            .map(load_tokenizer)
            .transpose()?;
        let model = settings.model(tokenizer.as_ref().map(|(t, _)| t.vocab_size()))?;
        ParameterTable::for_training(&model, &train, usize::MAX)?;
        // Of adapters, init_from is the model that they are of.
        let base = settings.init_from.as_deref();
        let resume = settings.load_checkpoint.as_deref();
        let resume = resume
            .map(|path| Checkpoint::open_beside(path, base))
            .transpose()?;
        if train.lora.is_some() {
            expect_base(settings, initial.as_ref(), &logdir)?;
        }
        if let Some(checkpoint) = &resume {
            checkpoint.expect_model(&model)?;
            expect_adapters(checkpoint, settings)?;
            warn_of_changes(checkpoint, settings)?;
        }
        if let Some(checkpoint) = &initial {
            checkpoint.check(&model)?;
        }
        let own_tokenizer = match (&tokenizer, needs_tokenizer(settings)) {
            (None, true) => tokenizer_of(initial.as_ref().or(resume.as_ref()))?,
            _ => None,
        };
        let shape = DataShape {
            vocab_size: model.vocab_size,
            context_length: model.context_length,
            tokenizer: tokenizer.as_ref().or(own_tokenizer.as_ref()),
            document_mask: train.document_mask,
        };
        let open = |path: &Path| Dataset::open_any(path, shape);
        let data = match &settings.train_path {
            Some(path) => open(path)?,
            None => unreachable!("the built-in corpus stands in"),
        };
        let validation = settings.val_path.as_deref().map(open).transpose()?;
        let tokenizer_hash = tokenizer_hash(&data, shape.tokenizer)?;
        let expected = tokenizer_hash.as_deref();
        if let Some(hash) = expected.filter(|_| !options.ignore_tokenizer_mismatch) {
            let datasets = std::iter::once(&data).chain(&validation);
            expect_tokenizer(hash, datasets, resume.iter().chain(&initial))?;
        }
        fill_in(&mut resolved, &model);
        if own_tokenizer.is_some() {
            resolved.settings.tokenizer = Some(logdir.path().join(TOKENIZER_FOLDER));
            resolved.note_source("tokenizer", "the model's own");
        }
        Ok(Self {
            kept_tokenizer: own_tokenizer,
            resolved,
            options,
            model,
            train,
            data,
            validation,
            resume,
            initial,
            tokenizer_hash,
            floor,
            logdir,
        })
    }

    /// The settings, with what followed from others or was made.
    pub fn settings(&self) -> &Settings {
        &self.resolved.settings
    }

    /// Opens the device that the settings name and starts the run on it.
    ///
    /// # Errors
    /// When no adapter fits, and as [`Run::start_on`].
    pub fn start(self) -> Result<StartedRun, Error> {
        let options = DeviceOptions {
            request: self.settings().adapter_request()?,
            checked: self.options.checked,
            ..DeviceOptions::default()
        };
        let device = Device::open(&options)?;
        self.start_on(&device)
    }

    /// Starts the run: kernels are chosen, everything is allocated, parameters get their first values or
    /// those of a checkpoint, and the run's files are begun.
    ///
    /// # Errors
    /// When the model does not fit the device, the device fails, a checkpoint does not fit, or the disk
    /// says no.
    pub fn start_on(self, device: &Device) -> Result<StartedRun, Error> {
        let mut tuning = self.options.tuning.clone();
        if let Some(checkpoint) = &self.resume {
            tuning.resumed.clone_from(&checkpoint.metadata()?.tuning);
        }
        let plan = |target| StepPlan::new(&self.model, &self.train, target).plan;
        let device = tuner::tune_plan(device, &tuning, plan)?.device;
        let engine = Engine::new(device, &self.model, &self.train)?;
        let (all, trained) = (engine.table().count(), engine.table().trained_count());
        match all == trained {
            true => tracing::info!("{all} parameters"),
            false => tracing::info!("{all} parameters, {trained} of which are trained"),
        }
        let mut base = None;
        match &self.initial {
            _ if self.resume.is_some() => {}
            Some(checkpoint) => {
                // A folder of another program has more than its weights.
                let path = self.settings().init_from.clone();
                let mut noted = Base::new(&path.unwrap_or_else(|| checkpoint.path()));
                let table = engine.table();
                engine.fill(|index, p| -> Result<_, Error> {
                    let tensor = checkpoint.initial_value(table, index, p, self.train.seed)?;
                    p.expect_fitting(&tensor)?;
                    noted.note(p, &tensor);
                    Ok(tensor)
                })?;
                base = table.is_adapted().then_some(noted);
            }
            None => engine.initialise(self.train.seed),
        }
        let options = self.run_options(base);
        self.logdir.clear()?;
        if let Some((tokenizer, roles)) = &self.kept_tokenizer {
            let folder = self.logdir.path().join(TOKENIZER_FOLDER);
            tokenizer.replace_with(Format::HuggingFace, &folder, roles)?;
        }
        let data = (self.data, self.validation);
        let trainer = Trainer::new(engine, self.train, options, data, self.resume.as_ref())?;
        Ok(StartedRun {
            trainer,
            logdir: self.logdir,
        })
    }

    fn run_options(&self, base: Option<Base>) -> RunOptions {
        let settings = self.settings();
        RunOptions {
            logdir: self.logdir.path().to_owned(),
            eval_interval: settings.eval_interval,
            eval_iters: settings.eval_iters,
            log_interval: settings.log_interval,
            checkpoint_interval: settings.checkpoint_interval,
            keep_checkpoints: settings.keep_checkpoints,
            tokenizer_hash: self.tokenizer_hash.clone(),
            floor: self.floor,
            profile: self.options.profile.clone(),
            base,
            config: self.resolved.to_json(),
        }
    }
}

/// A run on a device, in a folder that is its own.
pub struct StartedRun {
    trainer: Trainer,
    logdir: Logdir,
}

impl StartedRun {
    /// Trains to the last iteration. `on_step` sees each finished one, a step late, and may end the run
    /// after the one that is under way, as `stop` does when somebody sets it; a run that is ended so
    /// leaves a checkpoint to go on from.
    ///
    /// # Errors
    /// When the device, the data or the disk fails, or the loss is no number any more.
    pub fn go(
        &mut self,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(&TrainRecord) -> ControlFlow<()>,
    ) -> Result<Ending, Error> {
        self.trainer.run(stop, on_step)
    }

    /// Iterations that are done.
    pub fn iterations(&self) -> u64 {
        self.trainer.state().iteration
    }

    /// The checkpoint that a finished or an ended run leaves.
    pub fn latest_checkpoint(&self) -> PathBuf {
        let folder = self.logdir.path().join("checkpoints");
        folder.join("latest.safetensors")
    }
}

/// Makes the built-in corpus and points the settings at it; gives its entropy in nats a token.
fn use_builtin_data(resolved: &mut Resolved, logdir: &Path) -> Result<f64, Error> {
    let settings = &mut resolved.settings;
    let vocab_size = settings.vocab_size.unwrap_or(builtin::DEFAULT_VOCAB_SIZE);
    // The shape is checked before minutes are spent on data.
    Settings {
        vocab_size: Some(vocab_size),
        ..settings.clone()
    }
    .model(None)?;
    tracing::info!(
        "no train_path: making the built-in stories in {}",
        logdir.display()
    );
    let data = builtin::prepare(logdir, settings.seed, vocab_size)?;
    settings.val_path = Some(data.val_path);
    settings.train_path = Some(data.train_path);
    settings.tokenizer = Some(data.tokenizer);
    for key in ["train_path", "val_path", "tokenizer"] {
        resolved.note_source(key, "built-in corpus");
    }
    tracing::info!(
        "entropy of the validation stories: {:.4} nats a token",
        data.floor
    );
    Ok(data.floor)
}

/// Opens the model that initial weights come from, if the settings name one, and gives the keys of the model's
/// shape that nobody gave the values that it has.
///
/// # Errors
/// When it cannot be read, is of another shape than somebody gave, or does not tell its number of heads and nobody
/// gave it.
pub fn open_initial(resolved: &mut Resolved) -> Result<Option<Checkpoint>, Error> {
    let Some(path) = resolved.settings.init_from.clone() else {
        return Ok(None);
    };
    let mut checkpoint = Checkpoint::open(&path)?;
    checkpoint.give(&resolved.given_of_model())?;
    let known = checkpoint.known()?;
    if !known.contains_key("num_heads") {
        let keys = vec!["num_heads"];
        return Err(InteropError::Incomplete { path, keys }.into());
    }
    resolved.fill(&known, &format!("init_from {}", path.display()))?;
    Ok(Some(checkpoint))
}

fn claim<'a>(settings: &'a Settings, options: &StartOptions) -> Claim<'a> {
    match &settings.load_checkpoint {
        Some(checkpoint) => Claim::GoOn(checkpoint),
        None if options.replace => Claim::Replace,
        None => Claim::Begin,
    }
}

fn expect_tokenizer<'a>(
    hash: &str,
    datasets: impl Iterator<Item = &'a Dataset>,
    mut checkpoints: impl Iterator<Item = &'a Checkpoint>,
) -> Result<(), Error> {
    for file in datasets.filter_map(Dataset::file) {
        file.expect_tokenizer(hash)?;
    }
    Ok(checkpoints.try_for_each(|checkpoint| checkpoint.expect_tokenizer(Some(hash)))?)
}

fn load_tokenizer(path: &Path) -> Result<(Tokenizer, TokenRoles), TokenizerError> {
    let (tokenizer, roles) = Tokenizer::load_with_roles(path)?;
    Ok((tokenizer.with_prompts_of(&roles), roles))
}

/// Hash of the tokenizer that is known, or that made the token file.
fn tokenizer_hash(
    data: &Dataset,
    tokenizer: Option<&(Tokenizer, TokenRoles)>,
) -> Result<Option<String>, Error> {
    match (tokenizer, data.file()) {
        (Some((tokenizer, _)), _) => Ok(Some(tokenizer.hash())),
        (None, Some(file)) => Ok(file.side_car()?.map(|side_car| side_car.tokenizer_hash)),
        (None, None) => Ok(None),
    }
}

fn needs_tokenizer(settings: &Settings) -> bool {
    let mut paths = settings.train_path.iter().chain(&settings.val_path);
    settings.document_mask || paths.any(|path| is_instruction_data(path))
}

/// The tokenizer that a model brings along.
fn tokenizer_of(
    checkpoint: Option<&Checkpoint>,
) -> Result<Option<(Tokenizer, TokenRoles)>, TokenizerError> {
    let own = checkpoint.map(Checkpoint::tokenizer).transpose()?.flatten();
    Ok(own.map(|(tokenizer, roles)| (tokenizer.with_prompts_of(&roles), roles)))
}

/// Adapters are beside a model, which stays where it is while they are trained and later on; that may be a sum of
/// others, too.
fn expect_base(
    settings: &Settings,
    initial: Option<&Checkpoint>,
    logdir: &Logdir,
) -> Result<(), ConfigError> {
    if settings.init_from.is_none() && settings.load_checkpoint.is_none() {
        return Err(ConfigError::Invalid {
            key: "lora_rank",
            found: settings.lora_rank.to_string(),
            rule: "there is no model to adapt; set init_from".to_owned(),
        });
    }
    let own = settings.init_from.as_deref();
    let sum = std::iter::successors(initial, |checkpoint| checkpoint.base());
    let mut paths = own.into_iter().chain(sum.filter_map(Checkpoint::base_path));
    let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match paths.find(|path| absolute(path).starts_with(absolute(logdir.path()))) {
        None => Ok(()),
        Some(base) => Err(ConfigError::Invalid {
            key: "init_from",
            found: base.display().to_string(),
            rule: "it lies in logdir, whose files the run replaces, and adapters are worth nothing without it; choose \
                   another logdir"
                .to_owned(),
        }),
    }
}

/// What a run's adapters are is not changed on the way.
fn expect_adapters(checkpoint: &Checkpoint, settings: &Settings) -> Result<(), Error> {
    let before = &checkpoint.metadata()?.config;
    let now = Resolved::of(settings.clone()).to_json();
    for key in [
        "lora_rank",
        "lora_alpha",
        "lora_targets",
        "freeze",
        "frozen_type",
    ] {
        let of = |config: &Map<String, Value>| match key {
            // The rank, where it is not given.
            "lora_alpha" => {
                let alpha = config.get(key)?.as_f64();
                Some(alpha.or(config.get("lora_rank")?.as_f64()).into())
            }
            _ => config.get(key).cloned(),
        };
        // Earlier versions knew none of them.
        if let (Some(found), Some(wanted)) = (of(before), of(&now))
            && found != wanted
        {
            return Err(CheckpointError::OtherModel {
                path: checkpoint.path(),
                key: key.to_owned(),
                found: found.to_string(),
                wanted: wanted.to_string(),
            }
            .into());
        }
    }
    Ok(())
}

/// The built-in stories come with a tokenizer of their own.
fn expect_no_tokenizer(initial: Option<&Checkpoint>) -> Result<(), ConfigError> {
    let foreign = initial.and_then(Checkpoint::foreign);
    match foreign.map(ForeignModel::tokenizer) {
        None | Some(Ok(None)) => Ok(()),
        Some(_) => Err(ConfigError::Invalid {
            key: "train_path",
            found: "not given".to_owned(),
            rule: "the model of init_from has a tokenizer of its own; encode a text with it"
                .to_owned(),
        }),
    }
}

/// Writes what followed from other keys into the settings, so that `config.json` is complete.
fn fill_in(resolved: &mut Resolved, model: &ModelConfig) {
    let mut derived = Vec::new();
    let settings = &mut resolved.settings;
    let mut set = |key: &'static str, slot: &mut Option<usize>, value: usize| {
        if slot.is_none() {
            *slot = Some(value);
            derived.push(key);
        }
    };
    set("vocab_size", &mut settings.vocab_size, model.vocab_size);
    set(
        "num_kv_heads",
        &mut settings.num_kv_heads,
        model.num_kv_heads,
    );
    set("d_ff", &mut settings.d_ff, model.d_ff);
    for key in derived {
        resolved.note_source(key, "derived");
    }
}

/// A run that goes on with other batches is not the run that was stopped; the user may want that.
fn warn_of_changes(checkpoint: &Checkpoint, settings: &Settings) -> Result<(), Error> {
    let before = &checkpoint.metadata()?.config;
    let now = [
        ("batch_size", serde_json::json!(settings.batch_size)),
        ("seed", serde_json::json!(settings.seed)),
        ("sampling", serde_json::json!(settings.sampling)),
        ("document_mask", serde_json::json!(settings.document_mask)),
    ];
    for (key, now) in now {
        let before = before.get(key).filter(|before| **before != now);
        if let Some(before) = before {
            tracing::warn!(
                "{key} is {now}, but the checkpoint was trained with {before}: the batches differ"
            );
        }
    }
    Ok(())
}
