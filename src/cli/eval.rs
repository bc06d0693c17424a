//! `gpu-tlm eval`: mean loss and perplexity over a whole token file.

use std::path::PathBuf;

use serde_json::json;

use super::AdapterArgs;
use super::model::{BaseArgs, ContextArgs, ModelTokenizer};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::config::Settings;
use crate::data::dataset::{DataShape, Dataset, is_instruction_data};
use crate::data::tokenizer::Tokenizer;
use crate::decode::{InferenceModel, ScorePlan, Scorer};
use crate::tuner;

/// Arguments of `gpu-tlm eval`.
#[derive(Debug, clap::Args)]
pub struct EvalArgs {
    /// Checkpoint to evaluate, or a model of another program in any format that is read
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Token file to evaluate on, or instruction data (.jsonl), of which answers alone count
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
    /// Windows of one pass
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// Folder of the tokenizer for instruction data [default: the model's own, where it has one]
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// Go on where another tokenizer made the token file than the checkpoint's
    #[arg(long)]
    ignore_tokenizer_mismatch: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
}

impl EvalArgs {
    /// The tokenizer that is given, or else the model's own.
    fn tokenizer_of(&self, checkpoint: &Checkpoint) -> Result<Option<ModelTokenizer>, Error> {
        let found = match &self.tokenizer {
            Some(path) => Some(Tokenizer::load_with_roles(path)?),
            None => checkpoint.tokenizer()?,
        };
        if let Some((tokenizer, _)) = found.as_ref().filter(|_| !self.ignore_tokenizer_mismatch) {
            checkpoint.expect_tokenizer(Some(&tokenizer.hash()))?;
        }
        Ok(found.map(|(tokenizer, roles)| (tokenizer.with_prompts_of(&roles), roles)))
    }
}

/// Evaluates over all windows that follow each other without overlap.
///
/// # Errors
/// When a file is missing or does not fit, or the device fails.
pub fn run(args: &EvalArgs) -> Result<(), Error> {
    let tuning = tuner::Options {
        short_run: true,
        ..args.tuning.options()?
    };
    let settings = Settings {
        batch_size: args.batch_size,
        ..Settings::default()
    };
    let batch_size = settings.train()?.batch_size;
    let mut checkpoint = args.base.open(&args.checkpoint)?;
    args.context.limit(&mut checkpoint)?;
    let config = checkpoint.model()?;
    let tokenizer = match is_instruction_data(&args.data) {
        true => args.tokenizer_of(&checkpoint)?,
        false => None,
    };
    let dataset = Dataset::open_any(
        &args.data,
        DataShape {
            vocab_size: config.vocab_size,
            context_length: config.context_length,
            tokenizer: tokenizer.as_ref(),
            document_mask: false,
        },
    )?;
    let noted = checkpoint.noted();
    let iteration = noted.map(|noted| noted.iteration);
    let tokenizer_hash = checkpoint.tokenizer_hash();
    let hash = tokenizer_hash.filter(|_| !args.ignore_tokenizer_mismatch);
    if let (Some(hash), Some(file)) = (hash, dataset.file()) {
        file.expect_tokenizer(&hash)?;
    }
    let device = args.adapter.open()?;
    let model = InferenceModel::new(checkpoint, device.target().max_binding_words)?;
    let plan = |target| ScorePlan::new(&config, &model.table, batch_size, target).plan;
    let device = tuner::tune_plan(&device, &tuning, plan)?.device;
    let mut scorer = Scorer::new(device, &model, batch_size)?;
    let windows = dataset.windows();
    let loss = scorer.mean_loss(&dataset, windows)?;
    let tokens = match dataset.examples() {
        Some(rows) => rows.answers(),
        None => windows * config.context_length,
    };
    let perplexity = loss.exp();
    if args.json {
        return super::print_json(&json!({
            "loss": loss,
            "perplexity": perplexity,
            "tokens": tokens,
            "windows": windows,
            "iteration": iteration,
            "planned_device_bytes": scorer.planned_bytes(),
            "allocated_device_bytes": scorer.device().allocated_bytes(),
        }));
    }
    super::print(&format!(
        "loss {loss:.6}  perplexity {perplexity:.4}  over {tokens} tokens\n"
    ))
}
