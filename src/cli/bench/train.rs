//! `gpu-tlm bench train`: whole training steps of a standard model.

use serde_json::json;

use super::super::{print, print_json, tune_steps};
use super::{Common, ModelName, describe_choices};
use crate::Error;
use crate::bench::train::{BATCH_SIZE, TrainReport, run as run_steps};
use crate::config::{Precision, Settings};
use crate::train::profile::dearest;
use crate::tuner;

/// Arguments of `gpu-tlm bench train`.
#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    /// The model
    #[arg(long, value_enum, default_value = "S")]
    model: ModelName,
    /// Sequences of a batch, instead of the model's 8
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Tokens of a sequence, instead of the model's
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// Width, instead of the model's: a multiple of twice its heads
    #[arg(long, value_name = "N")]
    d_model: Option<usize>,
    /// Entries of the vocabulary, instead of the model's
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// What products and attention compute with
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &TrainArgs) -> Result<(), Error> {
    let tuning = &args.common.tuning.options()?;
    let model = args.model.model();
    let own = model.config();
    let settings = Settings {
        vocab_size: Some(args.vocab_size.unwrap_or(own.vocab_size)),
        context_length: args.context_length.unwrap_or(own.context_length),
        d_model: args.d_model.unwrap_or(own.d_model),
        num_layers: own.num_layers,
        num_heads: own.num_heads,
        d_ff: Some(own.d_ff),
        precision: args.precision,
        batch_size: args.batch_size.unwrap_or(BATCH_SIZE),
        ..Settings::default()
    };
    let config = settings.model(None)?;
    let train = settings.train()?;
    let batch_size = train.batch_size;
    let tuned = tune_steps(&args.common.adapter.open()?, tuning, &config, &train)?;
    let device = tuned.device;
    let report = run_steps(&device, &config, batch_size)?;
    if args.common.json {
        let mut object = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "adapter": device.name(),
            "driver": device.driver(),
            "backend": device.backend(),
            "model": model.name(),
            "batch_size": batch_size,
            "context_length": config.context_length,
            "d_model": config.d_model,
            "vocab_size": config.vocab_size,
            "precision": config.precision,
            "chip": tuned.known.chip,
            "tuning": tuner::to_json(&tuned.known.findings),
            "tuning_s": tuned.seconds,
        });
        let figures = json!(report);
        for (key, value) in figures.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        return print_json(&object);
    }
    let choices = describe_choices(&tuned.known, tuning);
    print(&format!("{}\n{choices}", describe_steps(&report)))
}

fn describe_steps(report: &TrainReport) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let allocated = match report.peak_device_bytes {
        Some(bytes) => format!("{:.1} MiB allocated", mib(bytes)),
        None => "this backend does not say what is allocated".to_owned(),
    };
    format!(
        "{:.0} tokens/s: {:.1} ms a step, median of {}, spread {:.0}%\n\
         {:.2} GFLOP/s, {:.0}% of a 1024x1024x1024 product's {:.2} in the same run\n\
         host {:.2}% of a step; first step after {:.2} s\n\
         device memory: {allocated}, {:.1} MiB planned\n\n{}\n",
        report.tokens_per_s,
        report.ms_per_step,
        report.steps,
        report.spread * 100.0,
        report.gflops,
        100.0 * report.gflops / report.matmul_gflops,
        report.matmul_gflops,
        report.host_share * 100.0,
        report.first_step_s,
        mib(report.planned_device_bytes),
        dearest(&report.dispatches, usize::MAX),
    )
}
