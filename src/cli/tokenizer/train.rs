//! `gpu-tlm tokenizer train`: learns a vocabulary from text.

use std::path::PathBuf;
use std::time::Instant;

use super::{InputArgs, Watcher};
use crate::Error;
use crate::data::stream;
use crate::data::tokenizer::train::{SpecialIds, TrainOptions, Trainer};
use crate::data::tokenizer::{END_OF_TEXT, TokenizerError};

/// Arguments of `gpu-tlm tokenizer train`.
#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Number of tokens to learn, with the 256 bytes and the special tokens
    #[arg(long, value_name = "N")]
    vocab_size: usize,
    /// Tokens that are never split or merged
    #[arg(long = "special-token", value_name = "S", num_args = 1.., default_values_t = [END_OF_TEXT.to_owned()])]
    special_tokens: Vec<String>,
    /// Which ids the special tokens get: from 0 on, or the last ones, as in GPT-2
    #[arg(long, value_enum, default_value = "first")]
    special_ids: Place,
    /// Directory for vocab.json and merges.txt, made if needed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Place {
    First,
    Last,
}

pub(super) fn run(args: &TrainArgs) -> Result<(), Error> {
    let start = Instant::now();
    let trainer = Trainer::new(TrainOptions {
        vocab_size: args.vocab_size,
        special_tokens: args.special_tokens.clone(),
        special_ids: match args.special_ids {
            Place::First => SpecialIds::First,
            Place::Last => SpecialIds::Last,
        },
    })?;
    let mut inputs = args.input.open()?;
    let watcher = Watcher::new(&inputs);
    stream::count(&mut inputs, &trainer, &mut |stats| watcher.watch(stats))?;
    let stats = watcher.finish(&inputs);
    let counted = start.elapsed().as_secs_f64();
    let bar = super::super::progress(args.vocab_size);
    let tokenizer = trainer.finish_watched(&mut |n_tokens| {
        bar.set_position(n_tokens as u64);
        watcher.go_on()
    });
    bar.finish_and_clear();
    let tokenizer = match tokenizer {
        Err(TokenizerError::Stopped) => return Err(Error::Interrupted),
        learnt => learnt?,
    };
    tokenizer.save(&args.out)?;
    let elapsed = start.elapsed().as_secs_f64();
    tracing::info!(
        "learnt {} tokens from {} bytes in {elapsed:.1} s ({:.1} s of it to count words): {}",
        tokenizer.vocab_size(),
        stats.text_bytes,
        counted,
        args.out.display()
    );
    Ok(())
}
