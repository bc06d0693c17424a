//! `gpu-tlm train`: from token files, or from nothing, to a model.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Resolved, SettingFlags, Settings};
use crate::data::dataset::Dataset;
use crate::gpu::{Device, DeviceOptions};
use crate::train::builtin;
use crate::train::engine::Engine;
use crate::train::logdir::{Claim, Logdir};
use crate::train::trainer::{Ending, RunOptions, Trainer};

/// Arguments of `gpu-tlm train`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    gpu-tlm train                                       on the built-in stories\n  \
    gpu-tlm train --config configs/quickstart.json --logdir runs/quickstart\n  \
    gpu-tlm train --train-path train.npy --val-path val.npy --tokenizer tokenizer --logdir runs/mine\n  \
    gpu-tlm train --config runs/mine/config.json \\\n      \
    --load-checkpoint runs/mine/checkpoints/latest.safetensors    go on")]
pub struct TrainArgs {
    /// JSON file with the settings below as keys; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// Keep bounds checks and loop guards in the shaders: slower, to find a fault
    #[arg(long)]
    checked: bool,
    /// Write a trace of one early step, with the device time of each dispatch, for
    /// chrome://tracing or ui.perfetto.dev, and print the ten dearest kernels
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Go on where token files, checkpoint and tokenizer do not belong together
    #[arg(long)]
    ignore_tokenizer_mismatch: bool,
    /// Replace the run that the logdir holds
    #[arg(long, conflicts_with = "load_checkpoint")]
    overwrite: bool,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) validation: super::ValidationArgs,
}

/// Trains; Ctrl-C finishes the iteration, writes a checkpoint and ends well, a second one ends at
/// once.
///
/// # Errors
/// When the settings are wrong, or the data, the device or the disk fails.
pub fn run(args: &TrainArgs) -> Result<(), Error> {
    let mut tuning = args.tuning.options()?;
    let mut resolved = Resolved::load(args.config.as_deref(), &args.settings)?;
    let request = resolved.settings.adapter_request()?;
    let prepared = prepare(&mut resolved, args)?;
    let settings = &resolved.settings;
    let options = DeviceOptions {
        request,
        checked: args.checked,
        ..DeviceOptions::default()
    };
    let device = Device::open(&options)?;
    let train = settings.train()?;
    if let Some(checkpoint) = &prepared.resume {
        tuning.resumed.clone_from(&checkpoint.metadata()?.tuning);
    }
    let device = super::tune_steps(&device, &tuning, &prepared.model, &train)?.device;
    let engine = Engine::new(device, &prepared.model, &train)?;
    tracing::info!("{} parameters", engine.table().count());
    match &settings.init_from {
        Some(path) => engine.restore(&Checkpoint::open(path)?.state(engine.table(), false)?),
        None => engine.initialise(train.seed),
    }
    let mut run_options = run_options(&resolved, &prepared);
    run_options.profile.clone_from(&args.profile);
    prepared.logdir.clear()?;
    let data = (prepared.data, prepared.validation);
    let mut trainer = Trainer::new(engine, train, run_options, data, prepared.resume.as_ref())?;
    let ending = trainer.run(&super::stop_on_interrupt(
        "stopping after this iteration; once more to stop at once",
    ))?;
    let latest = prepared
        .logdir
        .path()
        .join("checkpoints")
        .join("latest.safetensors");
    match ending {
        Ending::Done => tracing::info!("done; the model is {}", latest.display()),
        Ending::Interrupted => tracing::info!(
            "stopped after {} iterations; go on with --load-checkpoint {}",
            trainer.state().iteration,
            latest.display()
        ),
    }
    Ok(())
}

struct Prepared {
    model: ModelConfig,
    data: Dataset,
    validation: Option<Dataset>,
    resume: Option<Checkpoint>,
    tokenizer_hash: Option<String>,
    floor: Option<f64>,
    logdir: Logdir,
}

/// Checks everything that can be checked before a device is opened or a file of the run written.
fn prepare(resolved: &mut Resolved, args: &TrainArgs) -> Result<Prepared, Error> {
    let settings = &mut resolved.settings;
    settings.train()?;
    let logdir = settings
        .logdir
        .get_or_insert_with(|| PathBuf::from("runs/latest"))
        .clone();
    let claim = match &settings.load_checkpoint {
        Some(checkpoint) => Claim::GoOn(checkpoint),
        None if args.overwrite => Claim::Replace,
        None => Claim::Begin,
    };
    let logdir = Logdir::open(&logdir, claim)?;
    let floor = if settings.train_path.is_none() {
        Some(use_builtin_data(resolved, logdir.path())?)
    } else {
        None
    };
    let settings = &mut resolved.settings;
    let tokenizer = super::load_tokenizer(settings.tokenizer.as_deref())?;
    let model = settings.model(tokenizer.as_ref().map(|t| t.vocab_size()))?;
    let resume = settings
        .load_checkpoint
        .as_deref()
        .map(Checkpoint::open)
        .transpose()?;
    if let Some(checkpoint) = &resume {
        checkpoint.expect_model(&model)?;
        warn_of_changes(checkpoint, settings)?;
    }
    let open = |path: &Path| Dataset::open(path, model.vocab_size, model.context_length);
    let data = match &settings.train_path {
        Some(path) => open(path)?,
        None => unreachable!("the built-in corpus stands in"),
    };
    let validation = settings.val_path.as_deref().map(open).transpose()?;
    let tokenizer_hash = match tokenizer.map(|t| t.hash()) {
        Some(hash) => Some(hash),
        None => data
            .file()
            .side_car()?
            .map(|side_car| side_car.tokenizer_hash),
    };
    if let Some(hash) = tokenizer_hash
        .as_deref()
        .filter(|_| !args.ignore_tokenizer_mismatch)
    {
        for dataset in std::iter::once(&data).chain(&validation) {
            dataset.file().expect_tokenizer(hash)?;
        }
        if let Some(checkpoint) = &resume {
            checkpoint.expect_tokenizer(Some(hash))?;
        }
    }
    fill_in(resolved, &model);
    Ok(Prepared {
        model,
        data,
        validation,
        resume,
        tokenizer_hash,
        floor,
        logdir,
    })
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

fn run_options(resolved: &Resolved, prepared: &Prepared) -> RunOptions {
    let settings = &resolved.settings;
    RunOptions {
        logdir: prepared.logdir.path().to_owned(),
        eval_interval: settings.eval_interval,
        eval_iters: settings.eval_iters,
        log_interval: settings.log_interval,
        checkpoint_interval: settings.checkpoint_interval,
        keep_checkpoints: settings.keep_checkpoints,
        tokenizer_hash: prepared.tokenizer_hash.clone(),
        floor: prepared.floor,
        profile: None,
        config: resolved.to_json(),
    }
}
