//! `gpu-tlm bench scaling`: how time and memory of a step grow.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::super::{print, print_json, progress, tune_steps};
use super::Common;
use crate::Error;
use crate::bench::scaling;
use crate::check::step::train_config;

/// Arguments of `gpu-tlm bench scaling`.
#[derive(Debug, clap::Args)]
pub(super) struct ScalingArgs {
    /// Draw the figures as SVG into this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Model S with one size changed after the other, each by the kernels that a training run would take.
pub(super) fn run(args: &ScalingArgs) -> Result<(), Error> {
    let tuning = &args.common.tuning.options()?;
    let device = args.common.adapter.open()?;
    let count = scaling::SWEEP.iter().map(|(_, values)| values.len()).sum();
    let bar = progress(count);
    let mut points = Vec::with_capacity(count);
    for (size, values) in scaling::SWEEP {
        for &value in values {
            let (model, batch_size) = size.apply(value);
            let train = train_config(batch_size, batch_size);
            let tuned = tune_steps(&device, tuning, &model, &train)?.device;
            points.push(scaling::measure(&tuned, size, value)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(path) = &args.out {
        scaling::write(path, &points).map_err(|cause| Error::Io {
            action: "write",
            path: path.clone(),
            source: cause,
        })?;
    }
    if args.common.json {
        return print_json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "adapter": device.name(),
            "driver": device.driver(),
            "backend": device.backend(),
            "points": points,
        }));
    }
    let mut text = format!(
        "{:<22} {:>12} {:>10} {:>10} {:>9} {:>12}\n",
        "changed", "ms a step", "tokens/s", "us a token", "GFLOP/s", "MiB planned"
    );
    for p in &points {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<14} {:>7} {:>12.1} {:>10.0} {:>10.1} {:>9.1} {:>12.1}",
            p.size,
            p.value,
            p.ms_per_step,
            p.tokens_per_s,
            p.ms_per_step * 1e3 / p.tokens as f64,
            p.gflops,
            p.planned_device_bytes as f64 / f64::from(1 << 20),
        );
    }
    print(&text)
}
