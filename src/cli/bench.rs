//! `gpu-tlm bench`: how fast this machine's adapter is.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::AdapterArgs;
use crate::Error;
use crate::bench::all::{self, Page};
use crate::bench::scaling;
use crate::bench::train::{BATCH_SIZE, Model, TrainReport, run as run_steps};
use crate::bench::{self, BenchError, Earlier, Report, RowReport, run as run_rows, select};
use crate::check::step::train_config;
use crate::config::{ModelConfig, Precision, Settings};
use crate::decode::{DecodePlans, Prefill};
use crate::gpu::Device;
use crate::kernels::check_name;
use crate::train::profile::dearest;
use crate::tuner::{self, Known};
use crate::weights::ParameterTable;

/// Arguments of `gpu-tlm bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Everything at once, as one page: the check, the ceilings, products, training, generation
    #[command(
        long_about = "Measures this machine's adapter and writes one page, as Markdown and as JSON: every kernel \
            and whole steps against the f64 reference, the adapter's ceilings, matrix products, training steps of \
            the models S, M and G, and generation, each in every precision.\n\n\
            It takes about ten minutes at most, or what --minutes says: what would not fit, be it time or memory, is \
            left out, and the page says why. Ctrl-C ends it after the part that runs. The page is written anew after \
            each part, so that nothing is lost; it is named by the adapter, and replaces one of that name. \
            Stdout gets the paths of both files."
    )]
    All(AllArgs),
    /// Each kernel alone: time, GFLOP/s, GB/s, and the share of the adapter's own ceilings
    Kernels(KernelsArgs),
    /// Whole training steps of a standard model, beside the matrix product's speed in the same run
    Train(TrainArgs),
    /// Generation by a standard model: prompts, tokens over the cache, and tokens without one
    Generate(GenerateArgs),
    /// How time and memory of a step grow with batch, context, width and vocabulary
    Scaling(ScalingArgs),
}

/// A standard model by its letter.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
enum ModelName {
    /// d_model 128, 4 layers, 4 heads, d_ff 344, vocabulary 1,024, context 128, batch 8
    S,
    /// d_model 512, 4 layers, 16 heads, d_ff 1,344, vocabulary 10,000, context 256, batch 8
    M,
    /// d_model 768, 12 layers, 12 heads, d_ff 2,048, vocabulary 50,257, context 1,024, batch 8
    G,
}

impl ModelName {
    fn model(self) -> Model {
        match self {
            Self::S => Model::Small,
            Self::M => Model::Medium,
            Self::G => Model::Large,
        }
    }
}

/// Arguments of `gpu-tlm bench all`.
#[derive(Debug, clap::Args)]
pub struct AllArgs {
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
    tuning: super::TuningArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object, the same as in the file, in place of the paths
    #[arg(long)]
    json: bool,
}

fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse().ok().filter(|&minutes: &f64| minutes > 0.0);
    let seconds = minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    seconds.ok_or_else(|| "give a number of minutes over 0, such as 10 or 0.5".to_owned())
}

/// Arguments of `gpu-tlm bench train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
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
    tuning: super::TuningArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `gpu-tlm bench generate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
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
    tuning: super::TuningArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `gpu-tlm bench scaling`.
#[derive(Debug, clap::Args)]
pub struct ScalingArgs {
    /// Draw the figures as SVG into this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `gpu-tlm bench kernels`.
#[derive(Debug, clap::Args)]
pub struct KernelsArgs {
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
    tuning: super::TuningArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    /// Which adapter runs it.
    pub(super) fn adapter(&self) -> &AdapterArgs {
        match &self.what {
            What::All(args) => &args.adapter,
            What::Kernels(args) => &args.adapter,
            What::Train(args) => &args.adapter,
            What::Generate(args) => &args.adapter,
            What::Scaling(args) => &args.adapter,
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// When the request is wrong, the device fails, or outputs are wrong.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    match &args.what {
        What::All(args) => everything(args, args.tuning.options()?),
        What::Kernels(args) => kernels(args, &args.tuning.options()?),
        What::Train(args) => train(args, &args.tuning.options()?),
        What::Generate(args) => generate(args, &args.tuning.options()?),
        What::Scaling(args) => scale(args, &args.tuning.options()?),
    }
}

/// Measures a page, or reads it, and writes it.
fn everything(args: &AllArgs, tuning: tuner::Options) -> Result<(), Error> {
    let page = match &args.from {
        Some(file) => Page::load(file)?,
        None => {
            let device = args.adapter.open()?;
            let stop = super::stop_on_interrupt(
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
        super::print(&page.to_json())?;
    } else {
        super::print(&paths.map(|path| format!("{}\n", path.display())).concat())?;
    }
    Ok(page.verdict()?)
}

fn train(args: &TrainArgs, tuning: &tuner::Options) -> Result<(), Error> {
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
    let tuned = super::tune_steps(&args.adapter.open()?, tuning, &config, &train)?;
    let device = tuned.device;
    let report = run_steps(&device, &config, batch_size)?;
    if args.json {
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
        return super::print_json(&object);
    }
    let choices = describe_choices(&tuned.known, tuning);
    super::print(&format!("{}\n{choices}", describe_steps(&report)))
}

fn generate(args: &GenerateArgs, tuning: &tuner::Options) -> Result<(), Error> {
    let config = ModelConfig {
        precision: args.precision,
        ..args.model.model().config()
    };
    if args.batch_size.contains(&0) {
        return Err(BenchError::NoSequence.into());
    }
    let device = args.adapter.open()?;
    let table = ParameterTable::new(&config, &[], device.target().max_binding_words);
    let plans = DecodePlans::new(&config, &table, 1, &device.target());
    let window = Prefill::of(config.context_length);
    let plan = |target| plans.prefill(target, window).plan;
    let tuned = tuner::tune_plan(&device, tuning, plan)?;
    let report = bench::generate::run(&tuned.device, &config, &args.batch_size)?;
    if args.json {
        return super::print_json(&json!({
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
    let mut text = format!(
        "model {}, windows of {} tokens; copy {:.1} GB/s\n\
         {:>5} {:>16} {:>12} {:>12} {:>7} {:>14} {:>8} {:>14}\n",
        args.model.model().name(),
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
    super::print(&text)
}

/// Model S with one size changed after the other, each by the kernels that a training run would take.
fn scale(args: &ScalingArgs, tuning: &tuner::Options) -> Result<(), Error> {
    let device = args.adapter.open()?;
    let count = scaling::SWEEP.iter().map(|(_, values)| values.len()).sum();
    let progress = super::progress(count);
    let mut points = Vec::with_capacity(count);
    for (size, values) in scaling::SWEEP {
        for &value in values {
            let (model, batch_size) = size.apply(value);
            let train = train_config(batch_size, batch_size);
            let tuned = super::tune_steps(&device, tuning, &model, &train)?.device;
            points.push(scaling::measure(&tuned, size, value)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if let Some(path) = &args.out {
        scaling::write(path, &points).map_err(|cause| Error::Io {
            action: "write",
            path: path.clone(),
            source: cause,
        })?;
    }
    if args.json {
        return super::print_json(&json!({
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
    super::print(&text)
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

/// What plans take for each class of products, and why.
fn describe_choices(known: &Known, tuning: &tuner::Options) -> String {
    if !tuning.forced.is_empty() {
        return format!(
            "kernels: {} wherever it can run\n",
            tuning.forced.join(", ")
        );
    }
    if *known == Known::default() {
        return "kernels: those of the adapter's class, untimed\n".to_owned();
    }
    format!("kernels:\n{}", tuner::describe(known))
}

fn kernels(args: &KernelsArgs, tuning: &tuner::Options) -> Result<(), Error> {
    if let Some(name) = &args.kernel {
        check_name(name, &[])?;
    }
    let rows = select(args.kernel.as_deref(), args.shape.as_deref())?;
    let earlier = args.compare.as_deref().map(Earlier::load).transpose()?;
    let device = args.adapter.open()?;
    let progress = super::progress(rows.len());
    let mut report = run_rows(&device, &rows, |_| progress.inc(1))?;
    progress.finish_and_clear();
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
    if args.json {
        super::print_json(&json!({
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
        super::print(&format!("{}\n{choices}", describe(&device, &report)))?;
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
