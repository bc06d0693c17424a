//! `gpu-tlm score`: the log-probability of each token of texts.

mod json;
mod table;

use std::path::PathBuf;

use json::JsonWriter;
use table::{Table, token_lines};

use super::model::ModelArgs;
use super::{AdapterArgs, ReadingArgs};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::config::Settings;
use crate::data::documents::{TokenDocument, TokenDocuments};
use crate::data::input::Inputs;
use crate::data::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::decode::{
    DecodeError, InferenceModel, Logprobs, Measure, ScorePlan, Scoring, Sequence, TextScorer,
};
use crate::tuner;

/// Arguments of `gpu-tlm score`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Log-probability of each token of texts, perplexity and bits per byte.\n\n\
        A document ends at the end of its file, line or row, and after each <|endoftext|>, which is \
        scored with it. Each begins behind an <|endoftext|>, as in training, so that its first token \
        has a log-probability too; with a tokenizer without that token the first one has none. Empty \
        documents are left out.\n\n\
        A document longer than the model's context is scored in windows. The first scores as many \
        tokens as the context holds; each further one scores up to --stride tokens, and reads as many \
        before them as the context holds beside. A small stride gives every token more to go on, and \
        takes longer. A stride of the whole context gives EleutherAI's lm_eval's rolling windows: none \
        reads a token twice but the last of the window before (and the last window, which is kept full).",
    after_long_help = "Examples:\n  \
        gpu-tlm score --checkpoint runs/latest/checkpoints/latest.safetensors --text val.txt\n  \
        gpu-tlm score --checkpoint best.safetensors --text 'web/*.jsonl.gz' \\\n      \
        --stride 64 --json > scores.json\n  \
        echo Once upon a time | gpu-tlm score --checkpoint best.safetensors \\\n      \
        --text - --per-token --top 3"
)]
pub struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Files to score, or patterns such as 'data/*.jsonl.gz': text, or by the end of the name
    /// .jsonl or .parquet, also .gz or .zst; `-` is standard input
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    text: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Most tokens that a window reads, from 1 to the context length [default: the context length]
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Most tokens that a window scores after a document's first, from 1 to the window's length
    /// [default: half of the window's length]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Give the N likeliest tokens in place of each token too, at most 20
    #[arg(long, value_name = "N", default_value_t = 0, requires = "tokens")]
    top: usize,
    /// Windows of one pass
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// A line for each document too
    #[arg(long, conflicts_with = "json")]
    per_document: bool,
    /// A line for each token too
    #[arg(long, group = "tokens")]
    per_token: bool,
    /// Print one JSON object
    #[arg(long, group = "tokens")]
    json: bool,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
}

/// Scores, and prints what was asked for as documents are done.
///
/// # Errors
/// When a file is missing or does not fit, a number is out of range, or the device fails.
pub fn run(args: &ScoreArgs) -> Result<(), Error> {
    let settings = Settings {
        batch_size: args.batch_size,
        ..Settings::default()
    };
    let batch_size = settings.train()?.batch_size;
    let (checkpoint, tokenizer) = args.model.open()?;
    let (tokenizer, _) = tokenizer.ok_or(DecodeError::NoOwnTokenizer)?;
    let context_length = checkpoint.model()?.context_length;
    let window = args.window.unwrap_or(context_length);
    let scoring = Scoring {
        batch_size,
        window,
        stride: args.stride.unwrap_or(window.div_ceil(2)),
        top: args.top,
    };
    scoring.check(context_length)?;
    let inputs = Inputs::open(&args.text, args.reading.options())?;
    let mut scorer = open(args, checkpoint, scoring)?;
    let mut report = Report::new(args, &tokenizer);
    let bar = super::progress(0);
    bar.set_length(inputs.size_bytes().unwrap_or(0));
    let mut documents = TokenDocuments::new(&tokenizer, inputs, report.end_of_text);
    let context = report.end_of_text;
    let sequences = std::iter::from_fn(|| {
        let document = documents.next()?;
        bar.set_position(documents.stats().file_bytes);
        Some(document.map_err(Error::from).map(|mut document| {
            let tokens = std::mem::take(&mut document.tokens);
            (document, Sequence { context, tokens })
        }))
    });
    let scored = scorer.score(sequences, |document, sequence, logprobs| {
        report.take(&document, &sequence.tokens, &logprobs)
    });
    bar.finish_and_clear();
    super::warn_of_replaced(&documents.stats());
    scored?;
    report.finish()
}

/// The model on a device, with tuned kernels.
fn open(args: &ScoreArgs, checkpoint: Checkpoint, scoring: Scoring) -> Result<TextScorer, Error> {
    let tuning = tuner::Options {
        short_run: true,
        ..args.tuning.options()?
    };
    let device = args.adapter.open()?;
    let model = InferenceModel::new(checkpoint, device.target().max_binding_words)?;
    let (config, table) = (&model.config, &model.table);
    let Scoring {
        batch_size, top, ..
    } = scoring;
    let plan = |target| ScorePlan::logprobs(config, table, batch_size, top, target).plan;
    let device = tuner::tune_plan(&device, &tuning, plan)?.device;
    TextScorer::new(device, &model, scoring)
}

/// What is printed, document by document and in the end.
struct Report<'a> {
    args: &'a ScoreArgs,
    tokenizer: &'a Tokenizer,
    end_of_text: Option<u32>,
    total: Measure,
    json: JsonWriter,
    table: Table,
}

impl<'a> Report<'a> {
    fn new(args: &'a ScoreArgs, tokenizer: &'a Tokenizer) -> Self {
        Self {
            args,
            tokenizer,
            end_of_text: tokenizer.token_id(END_OF_TEXT),
            total: Measure::default(),
            json: JsonWriter::default(),
            table: Table::default(),
        }
    }

    fn take(
        &mut self,
        document: &TokenDocument,
        tokens: &[u32],
        logprobs: &Logprobs,
    ) -> Result<(), Error> {
        let bytes_of = |&id: &u32| match self.tokenizer.token_bytes(id) {
            Some(bytes) if Some(id) != self.end_of_text => bytes.len(),
            _ => 0,
        };
        let token_bytes: Vec<usize> = tokens.iter().map(bytes_of).collect();
        let measure = Measure::new(&token_bytes, logprobs);
        self.total.add(&measure);
        if self.args.json {
            let has_top = self.args.top > 0;
            return self
                .json
                .document(document, (tokens, logprobs), has_top, &measure);
        }
        if self.args.per_token {
            super::print(&token_lines(document, tokens, logprobs, self.tokenizer))?;
        }
        self.table.add(document, &measure, self.args.per_document);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        if self.total.n_tokens == 0 {
            return Err(DecodeError::NoText.into());
        }
        if self.args.json {
            return self.json.finish(&self.total);
        }
        super::print(&self.table.finish(&self.total))
    }
}
