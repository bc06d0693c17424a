//! `gpu-tlm bench kernels`: each kernel alone.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::super::{print, print_json, progress};
use super::{Common, describe_choices};
use crate::Error;
use crate::bench::{Earlier, Report, RowReport, run as run_rows, select};
use crate::gpu::Device;
use crate::kernels::check_name;
use crate::tuner::{self, Known};

/// Arguments of `gpu-tlm bench kernels`.
#[derive(Debug, clap::Args)]
pub(super) struct KernelsArgs {
    /// Only this kernel: a name as in the table, with or without its variant
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Only shapes that hold this text; MxNxK times that matrix product
    #[arg(long)]
    shape: Option<String>,
    /// Print how many times as fast it is as an earlier run, whose --json output this is
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &KernelsArgs) -> Result<(), Error> {
    let tuning = &args.common.tuning.options()?;
    if let Some(name) = &args.kernel {
        check_name(name, &[])?;
    }
    let rows = select(args.kernel.as_deref(), args.shape.as_deref())?;
    let earlier = args.compare.as_deref().map(Earlier::load).transpose()?;
    let device = args.common.adapter.open()?;
    let bar = progress(rows.len());
    let mut report = run_rows(&device, &rows, |_| bar.inc(1))?;
    bar.finish_and_clear();
    if let Some(earlier) = earlier {
        if earlier.adapter() != device.name() {
            tracing::warn!("the earlier run was on '{}'", earlier.adapter());
        }
        earlier.add_ratios(&mut report);
    }
    let known = if tuning.off {
        Known::default()
    } else {
        tuner::look_up(&device)
    };
    if args.common.json {
        print_json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "adapter": device.name(),
            "driver": device.driver(),
            "backend": device.backend(),
            "ceilings": report.ceilings,
            "rows": report.rows,
            "skipped": report.skipped,
            "chip": known.chip,
            "tuning": tuner::to_json(&known.findings),
        }))?;
    } else {
        let choices = describe_choices(&known, tuning);
        print(&format!("{}\n{choices}", describe(&device, &report)))?;
    }
    Ok(report.verdict()?)
}

/// The report as a table for people.
pub fn describe(device: &Device, report: &Report) -> String {
    let ceilings = &report.ceilings;
    let mut text = format!(
        "{} ({}, {})\nceilings: {:.1} GFLOP/s multiply-add, {:.1} GB/s copy, {:.1} GB/s workgroup memory\n",
        device.name(),
        device.backend(),
        device.driver(),
        ceilings.fma_gflops,
        ceilings.copy_gb_per_s,
        ceilings.workgroup_gb_per_s,
    );
    let compared = report.rows.iter().any(|row| row.ratio.is_some());
    let last = if compared { "  x faster" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<30} {:<16} {:<40} {:>10} {:>7} {:>9} {:>8} {:>8}{last}",
        "kernel", "variant", "shape", "ms", "spread", "GFLOP/s", "GB/s", "ceiling"
    );
    for row in &report.rows {
        text.push_str(&describe_row(row, compared));
    }
    for row in &report.skipped {
        let _ = writeln!(text, "skipped {} {}: {}", row.kernel, row.shape, row.reason);
    }
    text
}

fn describe_row(row: &RowReport, compared: bool) -> String {
    let head = format!("{:<30} {:<16} {:<40}", row.kernel, row.variant, row.shape);
    if let Some(failure) = &row.failure {
        return format!("{head} WRONG: {failure}\n");
    }
    let number = |value: Option<f64>, factor: f64, digits: usize| {
        value.map_or("-".to_owned(), |v| format!("{:.digits$}", v * factor))
    };
    let ratio = if compared {
        format!("{:>10}", number(row.ratio, 1.0, 2))
    } else {
        String::new()
    };
    format!(
        "{head} {:>10} {:>6}% {:>9} {:>8} {:>7}%{ratio}\n",
        number(row.ms, 1.0, 3),
        number(row.spread, 100.0, 0),
        number(row.gflops, 1.0, 2),
        number(row.gb_per_s, 1.0, 2),
        number(row.share_of_ceiling, 100.0, 0),
    )
}
