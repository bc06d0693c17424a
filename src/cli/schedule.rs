//! `gpu-tlm schedule`: the learning rate over a run.

use std::path::PathBuf;

use serde_json::json;

use crate::Error;
use crate::config::{Resolved, SettingFlags};
use crate::train::schedule::learning_rate;

/// Arguments of `gpu-tlm schedule`.
#[derive(Debug, clap::Args)]
pub struct ScheduleArgs {
    /// JSON file with the settings below as keys; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// Rows to print
    #[arg(long, default_value_t = 20)]
    points: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the learning rate at evenly spaced iterations, the first and the last included.
///
/// # Errors
/// When the settings are wrong.
pub fn run(args: &ScheduleArgs) -> Result<(), Error> {
    let train = Resolved::load(args.config.as_deref(), &args.settings)?
        .settings
        .train()?;
    let last = train.max_iters - 1;
    let steps = args.points.clamp(2, last.max(1) + 1) - 1;
    let rows: Vec<(u64, f64)> = (0..=steps)
        .map(|i| last * i / steps)
        .map(|iteration| (iteration, learning_rate(&train, iteration)))
        .collect();
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(iteration, rate)| json!({ "iteration": iteration, "learning_rate": rate }))
            .collect();
        return super::print_json(&json!({ "rows": rows }));
    }
    const WIDTH: f64 = 50.0;
    let line = |&(iteration, rate): &(u64, f64)| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to WIDTH"
        )]
        let bar = "#".repeat((rate / train.learning_rate * WIDTH).round() as usize);
        format!("{iteration:>10}  {rate:<12.4e} {bar}\n")
    };
    super::print(&rows.iter().map(line).collect::<String>())
}
