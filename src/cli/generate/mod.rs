//! `gpu-tlm generate`: text from a trained model.

mod chat;
mod output;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use chat::Chat;
use output::{Form, Printer};

use super::AdapterArgs;
use super::model::ModelArgs;
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::data::chat::ChatTemplate;
use crate::data::tokenizer::{TokenRoles, Tokenizer};
use crate::decode::{
    DecodeError, Generator, InferenceModel, Job, MAX_LOGPROBS, Overflow, Prompt, Request,
    check_job, generate_all, read_prompts,
};
use crate::kernels::sample::Sampling;
use crate::tuner;

/// Tokens of a conversation that kernels are chosen for.
const TALK_LENGTH: usize = 1024;
/// Sequences at once where nothing else is asked for.
const BATCH_SIZE: usize = 16;

/// Arguments of `gpu-tlm generate`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("as_json").args(["json", "prompts"]).multiple(true),
    after_long_help = "Examples:\n  \
    gpu-tlm generate --checkpoint runs/latest/checkpoints/latest.safetensors --prompt \"Once\" \\\n      \
    --temperature 0.8 --top-p 0.95\n  \
    gpu-tlm generate --checkpoint FILE --prompt \"Once\" --num-samples 4 --stop Tim\n  \
    gpu-tlm generate --checkpoint FILE --prompt \"Once\" --json --logprobs 5\n  \
    gpu-tlm generate --checkpoint FILE --prompts prompts.jsonl > texts.jsonl\n  \
    gpu-tlm generate --checkpoint SmolLM2-135M-Instruct/ --context-length 2048 --chat\n\n\
    A line of prompts.jsonl:\n  \
    {\"id\": 7, \"prompt\": \"Once\", \"max_new_tokens\": 40, \"temperature\": 0.5, \"seed\": 3, \"stop\": [\"\\n\"]}"
)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to go on from; by default the token that begins a text, or else one that ends the text before
    #[arg(long, conflicts_with_all = ["prompt_tokens", "prompts"])]
    prompt: Option<String>,
    /// Talk to a model of chats, by the template that came with it: `--prompt` is answered once, or else each line
    /// that is typed, in a conversation
    #[arg(long, conflicts_with_all = ["prompt_tokens", "prompts"])]
    chat: bool,
    /// What the model is told before a chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Token ids to go on from, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "IDS",
        conflicts_with = "prompts"
    )]
    prompt_tokens: Option<Vec<u32>>,
    /// Many prompts, from a file of JSON lines or from standard input (-); one JSON line a text comes out
    ///
    /// A line is an object with `prompt` (text) or `prompt_tokens` (ids). It may have its own
    /// max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed and stop (a text or a
    /// list), which stand in for the flags, and an `id`, any JSON, which is given back. Files that end in
    /// .gz or .zst are decompressed. Results come in the order of the prompts, and each is the same as for
    /// its prompt alone.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
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
    /// Seed of the draws; the same seed and prompt give the same text, whatever else is generated beside it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Token that ends a text, as text or id; `none` goes on to max-new-tokens [default: those that the model's files name, or <|endoftext|>]
    #[arg(long, value_name = "TOKEN")]
    eos_token: Option<String>,
    /// End a text before this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// What happens when prompt and new tokens exceed the model's context
    #[arg(long, value_enum, value_name = "MODE", default_value_t = OverflowMode::Exact)]
    overflow: OverflowMode,
    /// Texts to generate, of each prompt
    #[arg(long, default_value_t = 1)]
    num_samples: u32,
    /// Most texts at once [default: 16, or as many as there are]
    #[arg(long, value_name = "N")]
    batch_size: Option<NonZeroUsize>,
    /// Print one JSON object (with `prompts`, a line a text in any case)
    #[arg(long)]
    json: bool,
    /// Log-probabilities of the new tokens in JSON, before temperature and filters, each with those of the
    /// N likeliest tokens at its place; N is 0 to 20
    #[arg(
        long, value_name = "N", requires = "as_json",
        value_parser = clap::value_parser!(u8).range(0..=MAX_LOGPROBS as i64)
    )]
    logprobs: Option<u8>,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
}

/// See [`Overflow`].
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OverflowMode {
    /// A new token sees exactly the last tokens that fit, which are all computed anew for it: slow
    Exact,
    /// A new token sees what was computed for the last tokens that fit when they saw others before them:
    /// fast, and not the same text
    Rolling,
    /// The text ends
    Stop,
}

impl From<OverflowMode> for Overflow {
    fn from(mode: OverflowMode) -> Self {
        match mode {
            OverflowMode::Exact => Self::Exact,
            OverflowMode::Rolling => Self::Rolling,
            OverflowMode::Stop => Self::Stop,
        }
    }
}

/// Generates, and prints each text after its prompt, as it comes. Ctrl-C ends the texts as they are.
///
/// # Errors
/// When a file does not fit, the prompt or a parameter is wrong, or the device fails; when it was stopped.
pub fn run(args: &GenerateArgs) -> Result<(), Error> {
    expect_lines(args)?;
    let tuning = tuner::Options {
        short_run: true,
        ..args.tuning.options()?
    };
    let (checkpoint, tokenizer, roles) = open(args)?;
    let mut ends = end_tokens(args, tokenizer.as_deref(), &roles)?;
    let mut chat = match (args.chat, &tokenizer) {
        (false, _) => None,
        (true, None) => return Err(DecodeError::NoTokenizer.into()),
        (true, Some(tokenizer)) => {
            let template = ChatTemplate::new(tokenizer, &roles)?;
            if args.eos_token.is_none() {
                ends.extend(template.end_of_turn(tokenizer));
            }
            let job = job(args, ends.clone());
            Some(Chat::new(
                template,
                tokenizer.clone(),
                job,
                args.system.as_deref(),
            ))
        }
    };
    let prompts = match (&mut chat, &args.prompt) {
        (Some(chat), question) => {
            let prompt = chat.ask(question.as_deref().unwrap_or("Hello"))?;
            vec![Prompt::of(chat.job_of(prompt))]
        }
        (None, _) => {
            let start = roles.bos.or(roles.eos.first().copied());
            prompts(args, tokenizer.as_deref(), (start, ends))?
        }
    };
    let jobs = samples(&prompts, args.num_samples);
    let device = args.adapter.open()?;
    let model = InferenceModel::new(checkpoint, device.target().max_binding_words)?;
    let most = args.batch_size.map_or(BATCH_SIZE, NonZeroUsize::get);
    let mut generator = Generator::new(device, model, most.min(jobs.len()).max(1))?;
    for prompt in &prompts {
        let checked = check_job(&generator, &prompt.job, tokenizer.as_ref());
        checked.map_err(|error| match &prompt.place {
            Some(place) => place.error(error.to_string()),
            None => error,
        })?;
    }
    let is_talk = args.chat && args.prompt.is_none();
    let context_length = generator.config().context_length;
    let lengths = match is_talk {
        // Each question is longer than those before it.
        true => 1..=context_length.min(TALK_LENGTH),
        false => lengths(&jobs, context_length),
    };
    let tuned = tuner::tune(generator.device(), &tuning, |device| {
        Ok(generator.questions(&device.target(), lengths.clone()))
    })?;
    generator.set_choices(tuned.device.choices().clone());
    if let Some(mut chat) = chat.filter(|_| is_talk) {
        chat.reset();
        return chat.talk(&mut generator);
    }
    let form = match (&args.prompts, args.json) {
        (Some(_), _) => Form::Lines,
        (None, true) => Form::Object,
        (None, false) => Form::Text,
    };
    // On a terminal a message would stand amid the text.
    let message = (form != Form::Text).then_some("stopping; once more to stop at once");
    let stop = super::stop_on_interrupt(message);
    let mut printer =
        Printer::new(form, &prompts, args.num_samples, tokenizer.is_some()).of_chat(args.chat);
    let ending = generate_all(
        &mut generator,
        &jobs,
        tokenizer.as_ref(),
        &stop,
        &mut |news| printer.take(news),
    );
    printer.finish(ending)
}

fn open(args: &GenerateArgs) -> Result<(Checkpoint, Option<Arc<Tokenizer>>, TokenRoles), Error> {
    let (checkpoint, tokenizer) = match args.prompt_tokens {
        None => args.model.open()?,
        Some(_) => args.model.open_for_ids()?,
    };
    let (tokenizer, roles) = tokenizer.unzip();
    Ok((
        checkpoint,
        tokenizer.map(Arc::new),
        roles.unwrap_or_default(),
    ))
}

/// A conversation is text, a line at a time.
fn expect_lines(args: &GenerateArgs) -> Result<(), DecodeError> {
    let given = [("json", args.json), ("num-samples", args.num_samples > 1)];
    let is_talk = args.chat && args.prompt.is_none();
    match given.into_iter().find(|(_, is_given)| is_talk && *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(DecodeError::OutOfRange {
            name,
            value: "given".to_owned(),
            rule: "left out in a conversation; give a --prompt for one answer",
        }),
    }
}

/// The job of each sample, those of a prompt one after another.
fn samples(prompts: &[Prompt], num_samples: u32) -> Vec<Job> {
    let of_one = |prompt: &Prompt| {
        let job = prompt.job.clone();
        (0..num_samples).map(move |sample| {
            let mut job = job.clone();
            job.request.sample = sample;
            job
        })
    };
    prompts.iter().flat_map(of_one).collect()
}

/// From the shortest window to the longest.
fn lengths(jobs: &[Job], context_length: usize) -> RangeInclusive<usize> {
    let shortest = jobs.iter().map(|job| job.request.prompt.len()).min();
    let longest = jobs.iter().map(|job| {
        let more = job.request.max_new_tokens.saturating_sub(1);
        job.request.prompt.len().saturating_add(more)
    });
    let within = |len: Option<usize>| len.unwrap_or(1).min(context_length);
    within(shortest)..=within(longest.max())
}

fn end_tokens(
    args: &GenerateArgs,
    tokenizer: Option<&Tokenizer>,
    roles: &TokenRoles,
) -> Result<Vec<u32>, DecodeError> {
    let named = |name: &str| tokenizer.and_then(|t| t.token_id(name));
    match args.eos_token.as_deref() {
        None => Ok(roles.eos.clone()),
        Some("none") => Ok(Vec::new()),
        Some(name) => {
            let id = named(name).or_else(|| name.parse().ok());
            id.map(|id| vec![id])
                .ok_or_else(|| DecodeError::NoSuchToken(name.to_owned()))
        }
    }
}

/// The prompts of a file, or the one of the flags.
fn prompts(
    args: &GenerateArgs,
    tokenizer: Option<&Tokenizer>,
    (start, ends): (Option<u32>, Vec<u32>),
) -> Result<Vec<Prompt>, Error> {
    let mut job = job(args, ends);
    if let Some(path) = &args.prompts {
        return read_prompts(path, &job, tokenizer);
    }
    job.request.prompt = match (&args.prompt_tokens, &args.prompt, tokenizer) {
        (Some(tokens), ..) => tokens.clone(),
        (None, Some(text), Some(tokenizer)) => tokenizer.encode_prompt(text),
        (None, Some(_), None) => return Err(DecodeError::NoTokenizer.into()),
        (None, None, _) => start.into_iter().collect(),
    };
    Ok(vec![Prompt::of(job)])
}

/// What is asked for by the flags, but for the prompt.
fn job(args: &GenerateArgs, end: Vec<u32>) -> Job {
    Job {
        request: Request {
            max_new_tokens: args.max_new_tokens,
            sampling: Sampling {
                temperature: args.temperature,
                top_k: args.top_k,
                top_p: args.top_p,
                min_p: args.min_p,
                repetition_penalty: args.repetition_penalty,
            },
            seed: args.seed,
            end,
            overflow: args.overflow.into(),
            logprobs: args.logprobs.map(usize::from),
            ..Request::default()
        },
        stops: args.stop.clone(),
    }
}
