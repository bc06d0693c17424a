//! The commands: each parses its arguments, makes one library call, and prints the result.

pub mod bench;
pub mod check;
pub mod data;
pub mod devices;
pub mod eval;
pub mod export;
pub mod generate;
mod hints;
pub mod import;
pub mod model;
pub mod plan;
pub mod schedule;
pub mod score;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shaders;
pub mod tokenizer;
pub mod train;

pub use hints::explain;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::Error;
use crate::config::{ModelConfig, TrainConfig};
use crate::data::input::{InputOptions, InputStats, MAX_DOCUMENT_BYTES};
use crate::data::tokenizer::Tokenizer;
use crate::gpu::{AdapterRequest, Choices, Device, DeviceOptions, GpuError, validation};
use crate::kernels::check_variant;
use crate::train::step_plan::StepPlan;
use crate::tuner::{self, Tuning};

/// Trains and samples Transformer language models on any GPU
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "First steps:\n  gpu-tlm train                     \
        train on the built-in stories\n  gpu-tlm generate --checkpoint runs/latest/checkpoints/latest.safetensors \\\n      \
        --prompt \"Once\"\n  gpu-tlm devices                   \
        what the shaders would run on"
)]
pub struct Cli {
    /// Say more: -v each kernel that is compiled, -vv each dispatch too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model, or go on training one
    Train(Box<train::TrainArgs>),
    /// Mean loss and perplexity of a checkpoint on a token file
    Eval(eval::EvalArgs),
    /// Log-probability of each token of texts, perplexity and bits per byte
    Score(score::ScoreArgs),
    /// Let a trained model go on from a prompt
    Generate(Box<generate::GenerateArgs>),
    /// Answer completions requests over HTTP, and show a page to try the model on
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    /// Turn a model of another program into a checkpoint
    Import(import::ImportArgs),
    /// Turn a checkpoint into a model for another program
    Export(export::ExportArgs),
    /// Learn a vocabulary, and turn text into token files and back
    Tokenizer(tokenizer::TokenizerArgs),
    /// Make and look at data
    Data(data::DataArgs),
    /// Every kernel of this program against an f64 reference, on this machine's adapter
    Check(check::CheckArgs),
    /// How fast this machine's adapter runs the kernels
    Bench(bench::BenchArgs),
    /// The adapters of this machine, their limits and features
    Devices(devices::DevicesArgs),
    /// What training, eval or generate would take: parameters, memory, operations, dispatches, kernels
    Plan(Box<plan::PlanArgs>),
    /// The learning rate over a run
    Schedule(Box<schedule::ScheduleArgs>),
    /// Write every kernel as a backend gets it: WGSL, SPIR-V, HLSL or MSL
    Shaders(shaders::ShadersArgs),
}

impl Cli {
    /// Takes the command line apart, or ends the process with help or an error. A negative number is a
    /// value of the option before it, whose range is checked later, and no flag.
    pub fn from_command_line() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Whether the command runs under Vulkan's validation layers.
    pub fn validates(&self) -> bool {
        match &self.command {
            Command::Train(args) => args.validation.on,
            Command::Plan(args) => args.validation.on,
            Command::Eval(args) => args.adapter.validation.on,
            Command::Score(args) => args.adapter.validation.on,
            Command::Generate(args) => args.adapter.validation.on,
            #[cfg(feature = "serve")]
            Command::Serve(args) => args.adapter.validation.on,
            Command::Check(args) => args.adapter.validation.on,
            Command::Bench(args) => args.adapter().validation.on,
            Command::Devices(args) => args.adapter.validation.on,
            Command::Import(_)
            | Command::Export(_)
            | Command::Tokenizer(_)
            | Command::Data(_)
            | Command::Schedule(_)
            | Command::Shaders(_) => false,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Those of the command, and what the validation layers said.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Train(args) => train::run(&args),
            Command::Eval(args) => eval::run(&args),
            Command::Score(args) => score::run(&args),
            Command::Generate(args) => generate::run(&args),
            #[cfg(feature = "serve")]
            Command::Serve(args) => serve::run(&args),
            Command::Import(args) => import::run(&args),
            Command::Export(args) => export::run(&args),
            Command::Tokenizer(args) => tokenizer::run(&args),
            Command::Data(args) => data::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Devices(args) => devices::run(&args),
            Command::Plan(args) => plan::run(&args),
            Command::Schedule(args) => schedule::run(&args),
            Command::Shaders(args) => shaders::run(&args),
        }?;
        Ok(validation::verdict()?)
    }
}

/// The program's command line.
fn command() -> clap::Command {
    take_negative_numbers(Cli::command())
}

fn take_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let takes_value = arg.get_action().takes_values() && !arg.is_positional();
            arg.allow_negative_numbers(takes_value)
        })
        .mut_subcommands(take_negative_numbers)
}

/// For commands that open a device.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ValidationArgs {
    /// Run under Vulkan's validation layers; whatever they have to say fails the run
    #[arg(long = "validation")]
    on: bool,
}

/// A kernel by its name, for commands whose plans have a choice.
#[derive(Clone, Debug, clap::Args)]
struct VariantArgs {
    /// Take this kernel wherever it can run, for instance matmul.texture, and time nothing; may be
    /// given once for each of matmul, attention and rmsnorm
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,
}

impl VariantArgs {
    fn choices(&self) -> Result<Choices, Error> {
        for name in &self.variant {
            check_variant(name)?;
        }
        Ok(Choices::forced(&self.variant))
    }
}

/// Which of several kernels computes an op, for commands that run a model.
#[derive(Clone, Debug, clap::Args)]
struct TuningArgs {
    /// Take the kernels that suit the adapter's class, instead of timing them at the first run and
    /// looking the times up later (in the folder that GPU_TLM_CACHE names, or else the platform's
    /// for caches)
    #[arg(long)]
    no_tune: bool,
    #[command(flatten)]
    forced: VariantArgs,
}

impl TuningArgs {
    fn options(&self) -> Result<tuner::Options, Error> {
        self.forced.choices()?;
        Ok(tuner::Options {
            off: self.no_tune,
            forced: self.forced.variant.clone(),
            ..tuner::Options::default()
        })
    }
}

/// Chooses the kernels of a training.
fn tune_steps(
    device: &Device,
    tuning: &tuner::Options,
    model: &ModelConfig,
    train: &TrainConfig,
) -> Result<Tuning, Error> {
    let plan = |target| StepPlan::new(model, train, target).plan;
    Ok(tuner::tune_plan(device, tuning, plan)?)
}

/// Which adapter runs the shaders, for commands that are no training run.
#[derive(Clone, Debug, clap::Args)]
pub struct AdapterArgs {
    /// Adapter by its index in `gpu-tlm devices` or a part of its name
    #[arg(long)]
    adapter: Option<String>,
    /// Graphics API: vulkan, metal, dx12 or gl
    #[arg(long)]
    backend: Option<String>,
    /// Keep bounds checks and loop guards in the shaders: slower, to find a fault
    #[arg(long)]
    checked: bool,
    #[command(flatten)]
    validation: ValidationArgs,
}

impl AdapterArgs {
    fn request(&self) -> Result<AdapterRequest, GpuError> {
        let backend = self.backend.as_deref().map(str::parse).transpose()?;
        Ok(AdapterRequest {
            name: self.adapter.clone(),
            backend,
        })
    }

    fn options(&self) -> Result<DeviceOptions, GpuError> {
        Ok(DeviceOptions {
            request: self.request()?,
            checked: self.checked,
            ..DeviceOptions::default()
        })
    }

    fn open(&self) -> Result<Device, Error> {
        Ok(Device::open(&self.options()?)?)
    }
}

/// How text is read, for commands that read it from files.
#[derive(Clone, Debug, clap::Args)]
struct ReadingArgs {
    /// Key or column of the text in .jsonl and .parquet
    #[arg(long, value_name = "KEY", default_value = "text")]
    field: String,
    /// Replace bytes that are no UTF-8, rather than fail, and say how many
    #[arg(long)]
    lossy: bool,
    /// Longest piece of text that is held whole: a line of .jsonl, a row of .parquet, or a run of
    /// a text file without a place to cut
    #[arg(long, value_name = "N", default_value_t = MAX_DOCUMENT_BYTES)]
    max_document_bytes: usize,
}

impl ReadingArgs {
    fn options(&self) -> InputOptions {
        InputOptions {
            field: self.field.clone(),
            is_lossy: self.lossy,
            max_document_bytes: self.max_document_bytes,
        }
    }
}

/// Says how many sequences of bytes were replaced, if any were.
fn warn_of_replaced(stats: &InputStats) {
    if stats.replaced > 0 {
        tracing::warn!(
            "{} sequences of bytes were no UTF-8 and became U+FFFD",
            stats.replaced
        );
    }
}

/// Writes a result to stdout. A reader that went away early, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Error> {
    print_on(text).map(|_| ())
}

/// Writes a part of a result to stdout, and says whether anybody reads on.
fn print_on(text: &str) -> Result<ControlFlow<()>, Error> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(crate::error::io("write to", "stdout")(error)),
    }
}

/// A bar of `len` steps on stderr, seen on a terminal alone.
fn progress(len: usize) -> indicatif::ProgressBar {
    indicatif::ProgressBar::new(len as u64)
}

/// Prints a value as the one JSON object on stdout.
fn print_json(value: &serde_json::Value) -> Result<(), Error> {
    print(&format!("{value:#}\n"))
}

fn load_tokenizer(dir: Option<&Path>) -> Result<Option<Tokenizer>, Error> {
    Ok(dir.map(Tokenizer::load).transpose()?)
}

/// A flag that Ctrl-C sets, with a message if any; a second Ctrl-C ends the process.
fn stop_on_interrupt(message: impl Into<Option<&'static str>>) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    on_interrupt(message, move || flag.store(true, Ordering::Relaxed));
    stop
}

/// Does something at Ctrl-C, with a message if any; a second Ctrl-C ends the process.
fn on_interrupt(message: impl Into<Option<&'static str>>, action: impl Fn() + Send + 'static) {
    let message = message.into();
    let interrupted = AtomicBool::new(false);
    at_interrupt(move || {
        if interrupted.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        action();
        if let Some(message) = message {
            tracing::warn!("{message}");
        }
    });
}

/// Exit code of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Does something at each Ctrl-C.
fn at_interrupt(action: impl FnMut() + Send + 'static) {
    if let Err(error) = ctrlc::set_handler(action) {
        tracing::warn!("Ctrl-C will stop at once: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of each command without subcommands, by the words that call it.
    fn options() -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        let mut waiting = vec![(String::new(), command())];
        while let Some((words, command)) = waiting.pop() {
            let options = command.get_arguments().filter_map(clap::Arg::get_long);
            let options = options.map(str::to_owned).collect();
            for sub in command.get_subcommands() {
                waiting.push((format!("{words} {}", sub.get_name()), sub.clone()));
            }
            if !command.has_subcommands() {
                found.push((words.trim().to_owned(), options));
            }
        }
        found
    }

    #[test]
    fn device_options_stand_where_a_device_is_opened() {
        let having = |option: &str| {
            let mut words: Vec<String> = options()
                .into_iter()
                .filter(|(_, options)| options.iter().any(|o| o == option))
                .map(|(words, _)| words)
                .collect();
            words.sort();
            words.join(", ")
        };
        let serve = if cfg!(feature = "serve") {
            " serve,"
        } else {
            ""
        };
        assert_eq!(
            having("validation"),
            format!(
                "bench all, bench generate, bench kernels, bench scaling, bench train, check, devices, eval, generate, \
                 plan, score,{serve} train"
            )
        );
        assert_eq!(
            having("no-tune"),
            format!(
                "bench all, bench generate, bench kernels, bench scaling, bench train, eval, generate, score,{serve} train"
            )
        );
        assert_eq!(
            having("variant"),
            format!(
                "bench all, bench generate, bench kernels, bench scaling, bench train, check, eval, generate, \
                 plan, score,{serve} train"
            )
        );
    }

    #[test]
    fn a_negative_number_is_a_value() {
        for words in [
            &["generate", "--checkpoint", "x", "--temperature", "-1"][..],
            &["train", "--learning-rate", "-0.001"],
            &["train", "--grad-clip", "-0.5"],
        ] {
            let matches = command().try_get_matches_from([&["gpu-tlm"], words].concat());
            assert!(matches.is_ok(), "{words:?}: {}", matches.unwrap_err());
        }
        let unsigned = ["gpu-tlm", "generate", "--checkpoint", "x", "--top-k", "-3"];
        let error = command().try_get_matches_from(unsigned).unwrap_err();
        assert!(error.to_string().contains("invalid value '-3'"), "{error}");
    }
}
