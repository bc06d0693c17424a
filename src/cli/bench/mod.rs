//! `gpu-tlm bench`: how fast this machine's adapter is.

mod all;
mod generate;
mod kernels;
mod scaling;
mod train;

pub use kernels::describe;

use super::{AdapterArgs, TuningArgs};
use crate::Error;
use crate::bench::train::Model;
use crate::tuner::{self, Known};

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
    All(all::AllArgs),
    /// Each kernel alone: time, GFLOP/s, GB/s, and the share of the adapter's own ceilings
    Kernels(kernels::KernelsArgs),
    /// Whole training steps of a standard model, beside the matrix product's speed in the same run
    Train(train::TrainArgs),
    /// Generation by a standard model: prompts, tokens over the cache, and tokens without one
    Generate(generate::GenerateArgs),
    /// How time and memory of a step grow with batch, context, width and vocabulary
    Scaling(scaling::ScalingArgs),
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

/// What all but the page take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    tuning: TuningArgs,
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
            What::Kernels(args) => &args.common.adapter,
            What::Train(args) => &args.common.adapter,
            What::Generate(args) => &args.common.adapter,
            What::Scaling(args) => &args.common.adapter,
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// When the request is wrong, the device fails, or outputs are wrong.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    match &args.what {
        What::All(args) => all::run(args),
        What::Kernels(args) => kernels::run(args),
        What::Train(args) => train::run(args),
        What::Generate(args) => generate::run(args),
        What::Scaling(args) => scaling::run(args),
    }
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
