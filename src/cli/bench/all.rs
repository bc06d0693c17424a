//! `gpu-tlm bench all`: everything at once, as one page.

use std::path::PathBuf;
use std::time::Duration;

use super::super::{AdapterArgs, TuningArgs, print, stop_on_interrupt};
use crate::Error;
use crate::bench::all::{self, Page};
use crate::gpu::Device;

/// Arguments of `gpu-tlm bench all`.
#[derive(Debug, clap::Args)]
pub(super) struct AllArgs {
    /// Write ADAPTER.md and ADAPTER.json into this folder, which is created where it is missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Minutes that it may take, the last part's estimate being as good as it is
    #[arg(long, value_name = "N", default_value = "10", value_parser = parse_minutes)]
    minutes: Duration,
    /// Measure nothing, and write the page of this JSON file of an earlier run
    #[arg(long, value_name = "FILE", conflicts_with = "minutes")]
    from: Option<PathBuf>,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
    /// Print one JSON object, the same as in the file, in place of the paths
    #[arg(long)]
    json: bool,
}

fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse().ok().filter(|&minutes: &f64| minutes > 0.0);
    let seconds = minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    seconds.ok_or_else(|| "give a number of minutes over 0, such as 10 or 0.5".to_owned())
}

/// Measures a page, or reads it, and writes it.
pub(super) fn run(args: &AllArgs) -> Result<(), Error> {
    let tuning = args.tuning.options()?;
    let page = match &args.from {
        Some(file) => Page::load(file)?,
        None => {
            let device = args.adapter.open()?;
            let stop = stop_on_interrupt(
                "stopping after this part; once more to stop at once, with what the page has",
            );
            let reopen = || Device::open(&args.adapter.options()?);
            let options = all::Options {
                budget_s: args.minutes.as_secs_f64(),
                tuning,
                stop: &stop,
            };
            let page = all::run(device, &reopen, &options, &mut |page, line| {
                tracing::info!("{line}");
                page.write(&args.out).map(|_| ())
            })?;
            let absent = page.absent_count();
            tracing::info!("{absent} parts were not measured; the page says why");
            page
        }
    };
    let paths = page.write(&args.out)?;
    if args.json {
        print(&page.to_json())?;
    } else {
        print(&paths.map(|path| format!("{}\n", path.display())).concat())?;
    }
    Ok(page.verdict()?)
}
