//! `gpu-tlm bench generate`: generation by a standard model.

use std::fmt::Write;

use serde_json::json;

use super::super::{print, print_json};
use super::{Common, ModelName};
use crate::Error;
use crate::bench::BenchError;
use crate::bench::generate::{GenerationReports, run as run_batches};
use crate::config::{ModelConfig, Precision};
use crate::decode::{DecodePlans, Prefill};
use crate::train::profile::dearest;
use crate::tuner;
use crate::weights::ParameterTable;

/// Arguments of `gpu-tlm bench generate`.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// The model
    #[arg(long, value_enum, default_value = "S")]
    model: ModelName,
    /// Sequences at once, several numbers separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 8, 32])]
    batch_size: Vec<usize>,
    /// What products and attention compute with
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &GenerateArgs) -> Result<(), Error> {
    let tuning = &args.common.tuning.options()?;
    let config = ModelConfig {
        precision: args.precision,
        ..args.model.model().config()
    };
    if args.batch_size.contains(&0) {
        return Err(BenchError::NoSequence.into());
    }
    let device = args.common.adapter.open()?;
    let table = ParameterTable::new(&config, &[], device.target().max_binding_words);
    let plans = DecodePlans::new(&config, &table, 1, &device.target());
    let window = Prefill::of(config.context_length);
    let plan = |target| plans.prefill(target, window).plan;
    let tuned = tuner::tune_plan(&device, tuning, plan)?;
    let report = run_batches(&tuned.device, &config, &args.batch_size)?;
    if args.common.json {
        return print_json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "adapter": device.name(),
            "driver": device.driver(),
            "backend": device.backend(),
            "model": args.model.model().name(),
            "precision": config.precision,
            "context_length": config.context_length,
            "copy_gb_per_s": report.copy_gb_per_s,
            "batches": report.batches,
        }));
    }
    print(&describe(args.model.model().name(), &config, &report))
}

fn describe(name: &str, config: &ModelConfig, report: &GenerationReports) -> String {
    let mut text = format!(
        "model {}, windows of {} tokens; copy {:.1} GB/s\n\
         {:>5} {:>16} {:>12} {:>12} {:>7} {:>14} {:>8} {:>14}\n",
        name,
        config.context_length,
        report.copy_gb_per_s,
        "batch",
        "prompt tokens/s",
        "ms a step",
        "tokens/s",
        "spread",
        "uncached",
        "x faster",
        "share of copy",
    );
    for row in &report.batches {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>5} {:>16.0} {:>12.3} {:>12.1} {:>6.0}% {:>14.1} {:>8.1} {:>13.0}%",
            row.batch_size,
            row.prompt_tokens_per_s,
            row.ms_per_step,
            row.tokens_per_s,
            row.spread * 100.0,
            row.uncached_tokens_per_s,
            row.speedup,
            row.share_of_copy * 100.0,
        );
    }
    for row in &report.batches {
        let dearest = dearest(&row.dispatches, usize::MAX);
        let _ = writeln!(text, "\na step of a batch of {}\n{dearest}", row.batch_size);
    }
    text
}
