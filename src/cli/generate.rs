//! `gpu-tlm generate`: text from a trained model.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::AdapterArgs;
use crate::Error;
use crate::data::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::decode::{DecodeError, Generator, InferenceModel, Request};
use crate::kernels::sample::Sampling;
use crate::tuner;

/// Arguments of `gpu-tlm generate`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Example:\n  gpu-tlm generate --checkpoint runs/latest/checkpoints/latest.safetensors \\\n      \
    --tokenizer runs/latest/tokenizer --prompt \"Once\" --temperature 0.8 --top-p 0.95"
)]
pub struct GenerateArgs {
    /// Checkpoint of the model
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Folder of the tokenizer that the model was trained with; without it only tokens are given
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Text to go on from; by default the end-of-text token, which starts a new text
    #[arg(long, conflicts_with = "prompt_tokens")]
    prompt: Option<String>,
    /// Token ids to go on from, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    prompt_tokens: Option<Vec<u32>>,
    /// Most tokens to add
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token every time
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draw among the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw among tokens with at least this share of the likeliest one's probability
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divides positive logits of tokens in the window and multiplies negative ones; over 1 repeats less
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Token that ends a text, as text or id; `none` goes on to max-new-tokens [default: <|endoftext|>, where the tokenizer has it]
    #[arg(long, value_name = "TOKEN")]
    eos_token: Option<String>,
    /// Texts to generate
    #[arg(long, default_value_t = 1)]
    num_samples: u32,
    /// Go on with another tokenizer than the checkpoint's
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

/// Generates, and prints each text after its prompt.
///
/// # Errors
/// When a file does not fit, the prompt or a parameter is wrong, or the device fails.
pub fn run(args: &GenerateArgs) -> Result<(), Error> {
    let tuning = tuner::Options {
        short_run: true,
        ..args.tuning.options()?
    };
    let tokenizer = super::load_tokenizer(args.tokenizer.as_deref())?;
    let end = end_token(args, tokenizer.as_ref())?;
    let prompt = prompt(args, tokenizer.as_ref(), end)?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
    };
    let device = args.adapter.open()?;
    let model = InferenceModel::open(&args.checkpoint, device.target().max_binding_words)?;
    let checkpoint = model.checkpoint();
    if let Some(checkpoint) = checkpoint.filter(|_| !args.ignore_tokenizer_mismatch) {
        let hash = tokenizer.as_ref().map(Tokenizer::hash);
        checkpoint.expect_tokenizer(hash.as_deref())?;
    }
    let mut generator = Generator::new(device, model, 1)?;
    let lengths = prompt.len()..=prompt.len() + args.max_new_tokens.saturating_sub(1);
    let tuned = tuner::tune(generator.device(), &tuning, |device| {
        Ok(generator.questions(&device.target(), lengths))
    })?;
    generator.set_choices(tuned.device.choices().clone());
    let mut samples = Vec::new();
    for sample in 0..args.num_samples {
        let request = Request {
            prompt: prompt.clone(),
            max_new_tokens: args.max_new_tokens,
            sampling,
            seed: args.seed,
            sample,
            end,
            ..Request::default()
        };
        let started = Instant::now();
        let (tokens, _) = generator.generate(request, |_| ())?;
        let tokens_per_s = tokens.len() as f64 / started.elapsed().as_secs_f64();
        let text = text(&prompt, &tokens, tokenizer.as_ref())?;
        if !args.json {
            if args.num_samples > 1 {
                super::print(&format!("--- {}\n", sample + 1))?;
            }
            super::print(&format!("{}\n", text.as_deref().unwrap_or(&ids(&tokens))))?;
        }
        samples.push(json!({
            "text": text,
            "tokens": tokens,
            "tokens_per_s": tokens_per_s,
        }));
    }
    if args.json {
        super::print_json(&summary(&prompt, samples))
    } else {
        Ok(())
    }
}

/// The first sample's keys on top, and all samples in a list.
fn summary(prompt: &[u32], samples: Vec<Value>) -> Value {
    let mut object = samples.first().cloned().unwrap_or_else(|| json!({}));
    object["prompt_tokens"] = json!(prompt);
    object["samples"] = Value::Array(samples);
    object
}

fn ids(tokens: &[u32]) -> String {
    tokens
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Prompt and new tokens as text; bytes that are no UTF-8, as at a cut, become replacement
/// characters. A prompt that only starts a text is left out.
fn text(
    prompt: &[u32],
    tokens: &[u32],
    tokenizer: Option<&Tokenizer>,
) -> Result<Option<String>, Error> {
    let Some(tokenizer) = tokenizer else {
        return Ok(None);
    };
    let shown = prompt
        .iter()
        .skip_while(|token| tokenizer.special_ids().contains(token));
    let all: Vec<u32> = shown.chain(tokens).copied().collect();
    Ok(Some(
        String::from_utf8_lossy(&tokenizer.decode(&all)?).into_owned(),
    ))
}

fn end_token(
    args: &GenerateArgs,
    tokenizer: Option<&Tokenizer>,
) -> Result<Option<u32>, DecodeError> {
    let named = |name: &str| tokenizer.and_then(|t| t.token_id(name));
    match args.eos_token.as_deref() {
        None => Ok(named(END_OF_TEXT)),
        Some("none") => Ok(None),
        Some(name) => {
            let id = named(name).or_else(|| name.parse().ok());
            id.map(Some)
                .ok_or_else(|| DecodeError::NoSuchToken(name.to_owned()))
        }
    }
}

fn prompt(
    args: &GenerateArgs,
    tokenizer: Option<&Tokenizer>,
    end: Option<u32>,
) -> Result<Vec<u32>, DecodeError> {
    match (&args.prompt_tokens, &args.prompt, tokenizer) {
        (Some(tokens), ..) => Ok(tokens.clone()),
        (None, Some(text), Some(tokenizer)) => Ok(tokenizer.encode(text)),
        (None, Some(_), None) => Err(DecodeError::NoTokenizer),
        (None, None, _) => Ok(end.into_iter().collect()),
    }
}
