//! `gpu-tlm check`: every kernel against the f64 reference, on this machine's adapter.

use std::fmt::Write;

use serde_json::json;

use super::AdapterArgs;
use crate::Error;
use crate::check::{self, Report, RowReport, Skipped, SkippedBy, step};
use crate::gpu::{Device, validation};
use crate::kernels::{FAMILIES, check_name};

/// Arguments of `gpu-tlm check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Only this kernel: a name as in the table, with or without its variant; `train_step` is the
    /// whole step
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    #[command(flatten)]
    forced: super::VariantArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs every row and prints the worst error of each kernel beside its tolerance.
///
/// # Errors
/// When the request is wrong, there is no adapter, or a row is wrong.
pub fn run(args: &CheckArgs) -> Result<(), Error> {
    let choices = args.forced.choices()?;
    if let Some(name) = &args.kernel {
        check_name(name, &[step::NAME])?;
    }
    let mut rows = check::all_rows();
    if let Some(name) = &args.kernel {
        rows.retain(|row| row.kernel.is_called(name));
    }
    let with_step = args.kernel.as_deref().is_none_or(|name| name == step::NAME);
    let device = args.adapter.open()?.with_choices(choices);
    let progress = super::progress(rows.len() + usize::from(with_step));
    let reopen = || Device::open(&args.adapter.options()?);
    let report = check::run(&device, &rows, with_step, reopen, || progress.inc(1))?;
    progress.finish_and_clear();
    if args.json {
        super::print_json(&to_json(&device, &report))?;
    } else {
        super::print(&describe(&device, &report, args.kernel.is_some()))?;
    }
    Ok(report.verdict()?)
}

fn to_json(device: &Device, report: &Report) -> serde_json::Value {
    let [in_use, absent] = device.optional_features();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapter": device.name(),
        "driver": device.driver(),
        "backend": device.backend(),
        "features_in_use": in_use,
        "features_absent": absent,
        "passed": report.passed(),
        "failed": report.failures().count(),
        "rows": report.rows,
        "skipped": report.skipped,
        "rows_by_op": report.by_op(),
        "validation_messages": validation::faults(),
        "summary": summary(device, report),
    })
}

/// The report for people: a line a kernel, or a line a row where `every_row`.
fn describe(device: &Device, report: &Report, every_row: bool) -> String {
    let mut text = table(report, every_row) + &kernels_that_ran(report);
    let [in_use, absent] = device.optional_features();
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "optional features in use: {}; absent: {}",
        list(&in_use),
        list(&absent)
    );
    text + &summary(device, report) + "\n"
}

/// One line that says it all, for a bug report.
fn summary(device: &Device, report: &Report) -> String {
    let messages = validation::faults();
    let sound = report.verdict().is_ok() && messages.unwrap_or(0) == 0;
    let said = messages.map_or(String::new(), |n| {
        format!(", {n} messages of the validation layers")
    });
    let skipped = |by| report.skipped.iter().filter(|row| row.by == by).count();
    format!(
        "gpu-tlm {}, {}, {}, {}: {}, {} of {} checks passed, {} skipped for the adapter, {} for the \
         kernel{said}",
        env!("CARGO_PKG_VERSION"),
        device.name(),
        device.driver(),
        device.backend(),
        if sound { "PASS" } else { "FAIL" },
        report.passed(),
        report.rows.len(),
        skipped(SkippedBy::Adapter),
        skipped(SkippedBy::Shape),
    )
}

fn table(report: &Report, every_row: bool) -> String {
    let mut text = format!(
        "{:<30} {:<16} {:>5} {:>9} {:>9}  result\n",
        "kernel", "variant", "rows", "worst", "tolerance"
    );
    let groups = if every_row {
        report.rows.iter().map(|row| vec![row]).collect()
    } else {
        report.by_kernel()
    };
    for group in &groups {
        text.push_str(&describe_group(group, every_row));
    }
    for row in report.failures() {
        let failure = row.failure.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "FAIL {} {} {} ({}): {failure}",
            row.kernel, row.variant, row.shape, row.class
        );
    }
    let mut skipped: Vec<(&Skipped, usize)> = Vec::new();
    for row in &report.skipped {
        let same = |(known, _): &&mut (&Skipped, usize)| {
            (&known.kernel, &known.variant, &known.reason)
                == (&row.kernel, &row.variant, &row.reason)
        };
        match skipped.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => skipped.push((row, 1)),
        }
    }
    for (row, count) in skipped {
        let rows = match count {
            1 => row.shape.clone(),
            _ => format!("({count} rows)"),
        };
        let _ = writeln!(
            text,
            "skipped {} {} {rows}: {}",
            row.kernel, row.variant, row.reason
        );
    }
    text
}

/// For each op of several variants the rows that each of its kernels ran, and their sum.
fn kernels_that_ran(report: &Report) -> String {
    let mut text = String::from("rows that ran, by kernel\n");
    let mut rest = report.rows.len();
    for (op, by) in report.by_op() {
        if !FAMILIES.iter().any(|family| family.op() == op) {
            continue;
        }
        let sum: usize = by.values().sum();
        rest -= sum;
        let _ = writeln!(text, "  {op:<46} {sum:>6}");
        for (kernel, rows) in by {
            let _ = writeln!(text, "    {kernel:<44} {rows:>6}");
        }
    }
    let _ = writeln!(text, "  {:<46} {rest:>6}", "other ops, and steps");
    let _ = writeln!(text, "  {:<46} {:>6}", "all", report.rows.len());
    text
}

fn describe_group(group: &[&RowReport], every_row: bool) -> String {
    let nearest = group
        .iter()
        .max_by(|a, b| a.nearness().total_cmp(&b.nearness()))
        .expect("a group has a row");
    let failed = group.iter().filter(|row| !row.ok).count();
    let result = match failed {
        0 => "ok".to_owned(),
        _ if every_row => "FAIL".to_owned(),
        n => format!("FAIL: {n}"),
    };
    let shape = if every_row {
        format!("  {} ({})", nearest.shape, nearest.class)
    } else {
        String::new()
    };
    let worst = nearest.worst.map_or("-".to_owned(), |w| format!("{w:.1e}"));
    format!(
        "{:<30} {:<16} {:>5} {worst:>9} {:>9}  {result}{shape}\n",
        nearest.kernel,
        nearest.variant,
        group.len(),
        format!("{:.0e}", nearest.tolerance),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn row(shape: &str, worst: f64, failure: Option<&str>) -> RowReport {
        RowReport {
            kernel: "softmax_forward".to_owned(),
            variant: "portable".to_owned(),
            class: "gpu",
            shape: shape.to_owned(),
            worst: Some(worst),
            tolerance: 1e-5,
            ok: failure.is_none(),
            failure: failure.map(str::to_owned),
            kernels: BTreeSet::new(),
        }
    }

    #[test]
    fn the_table_shows_the_worst_row_of_a_kernel_and_every_failure() {
        let report = Report {
            rows: vec![
                row("1x1", 1e-7, None),
                row(
                    "7x8",
                    0.25,
                    Some("output[3] is 2 where the reference has 1"),
                ),
                row("5x9", 2e-7, None),
            ],
            skipped: Vec::new(),
        };
        let text = table(&report, false);
        let line = text.lines().nth(1).unwrap();
        for part in ["softmax_forward", "3", "2.5e-1", "1e-5", "FAIL: 1"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(
            text.contains("FAIL softmax_forward portable 7x8 (gpu): output[3]"),
            "{text}"
        );
        assert_eq!(table(&report, true).lines().count(), 1 + 3 + 1);
        let error = Error::from(report.verdict().unwrap_err());
        assert_eq!(error.exit_code(), 1);
    }
    #[test]
    fn rows_that_are_skipped_for_one_reason_share_a_line() {
        let skipped = |shape: &str, reason: &str| Skipped {
            kernel: "matmul".to_owned(),
            variant: "texture_subgroup".to_owned(),
            shape: shape.to_owned(),
            reason: reason.to_owned(),
            by: SkippedBy::Adapter,
        };
        let report = Report {
            rows: Vec::new(),
            skipped: vec![
                skipped("1x1x1", "it needs subgroups of 8 lanes"),
                skipped("2x2x2", "it needs subgroups of 8 lanes"),
                skipped("3x3x3", "over a limit"),
            ],
        };
        let text = table(&report, false);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "skipped matmul texture_subgroup (2 rows): it needs subgroups of 8 lanes",
                "skipped matmul texture_subgroup 3x3x3: over a limit",
            ]
        );
    }
}
