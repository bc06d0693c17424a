//! `gpu-tlm tokenizer`: learns a vocabulary, turns text into token files and back, and reads and
//! writes the formats of other programs.

mod convert;
mod decode;
mod encode;
mod info;
mod train;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;
use crate::cli::ReadingArgs;
use crate::data::input::{InputStats, Inputs};

/// Arguments of `gpu-tlm tokenizer`.
#[derive(Debug, Args)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Learn a byte-level BPE vocabulary from text
    #[command(
        long_about = "Learn a byte-level BPE vocabulary from text.\n\n\
            Writes vocab.json and merges.txt, in the format of GPT-2's tokenizer. Text is split at \
            special tokens and at the ends of files, lines of JSON and rows, and no token reaches \
            across. Memory grows with the number of distinct words, not with the text.",
        after_long_help = "Examples:\n  \
            gpu-tlm tokenizer train --input stories.txt --vocab-size 10000 --out tokenizer\n  \
            gpu-tlm tokenizer train --input 'web/*.jsonl.zst' --field content --vocab-size 32000 \\\n      \
            --special-token '<|endoftext|>' '<|pad|>' --special-ids last --out tokenizer"
    )]
    Train(train::TrainArgs),
    /// Turn text into a file of token ids
    #[command(
        long_about = "Turn text into a file of token ids.\n\n\
            Writes a NumPy .npy file of uint16, or of uint32 for a vocabulary of more than 65,536 \
            tokens, and beside it a .npy.json that names the tokenizer. Between documents stands \
            <|endoftext|>, where the vocabulary has it. Without --input text is read from standard \
            input; without --out ids are written to standard output.",
        after_long_help = "Examples:\n  \
            gpu-tlm tokenizer encode --tokenizer tokenizer --input stories.txt --out train.npy\n  \
            gpu-tlm tokenizer encode --tokenizer tokenizer --input 'web/*.jsonl.gz' --out train.npy \\\n      \
            --val-fraction 0.01 --val-out val.npy\n  \
            echo hello | gpu-tlm tokenizer encode --tokenizer tokenizer"
    )]
    Encode(encode::EncodeArgs),
    /// Turn token ids back into text
    #[command(
        long_about = "Turn token ids back into text.\n\n\
            Bytes that are no UTF-8, as where ids start or end within a character, become the \
            replacement character; with --raw they are written as they are. Without --input ids \
            are read as numbers from standard input.",
        after_long_help = "Examples:\n  \
            gpu-tlm tokenizer decode --tokenizer tokenizer --input train.npy | head\n  \
            echo 31373 995 | gpu-tlm tokenizer decode --tokenizer gpt2"
    )]
    Decode(decode::DecodeArgs),
    /// What a tokenizer is made of: tokens, rules, special tokens and their roles, hash
    Info(info::InfoArgs),
    /// Write a tokenizer in another format
    #[command(
        long_about = "Write a tokenizer in another format.\n\n\
            Every command takes a tokenizer of any format: a folder with vocab.json and merges.txt \
            or merges.pkl, a tokenizer.json (GPT-2, SmolLM, Llama 3, Qwen) or a .tiktoken file. A file \
            that contradicts itself, or that describes something else than byte-level BPE with the \
            pre-tokens of these models, is refused; so is a format that cannot say what a tokenizer \
            does. The tokens that begin and end a text and the chat template go along to \
            hugging-face.",
        after_long_help = "Examples:\n  \
            gpu-tlm tokenizer convert --tokenizer r50k_base.tiktoken --special-token '<|endoftext|>' \\\n      \
            --to gpt2 --out gpt2\n  \
            gpu-tlm tokenizer convert --tokenizer SmolLM2-135M --to hugging-face --out copy\n  \
            gpu-tlm tokenizer convert --tokenizer tokenizer --to hugging-face --out exported"
    )]
    Convert(convert::ConvertArgs),
}

/// Runs one of the subcommands.
///
/// # Errors
///
/// If a file cannot be read or written or is damaged, a text is not UTF-8, or the vocabulary asked
/// for is not possible.
pub fn run(args: &TokenizerArgs) -> Result<(), Error> {
    match &args.command {
        TokenizerCommand::Train(args) => train::run(args),
        TokenizerCommand::Encode(args) => encode::run(args),
        TokenizerCommand::Decode(args) => decode::run(args),
        TokenizerCommand::Info(args) => info::run(args),
        TokenizerCommand::Convert(args) => convert::run(args),
    }
}

/// What text is read.
#[derive(Args, Clone, Debug)]
struct InputArgs {
    /// Files to read, or patterns such as 'data/*.jsonl.gz': text, or by the end of the name
    /// .jsonl or .parquet, also .gz or .zst; `-` is standard input
    #[arg(long, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
}

impl InputArgs {
    fn open(&self) -> Result<Inputs, Error> {
        let stdin = [PathBuf::from("-")];
        let paths = if self.input.is_empty() {
            &stdin[..]
        } else {
            &self.input
        };
        Ok(Inputs::open(paths, self.reading.options())?)
    }
}

/// A bar over the bytes of the inputs on stderr, and the wish of Ctrl-C to stop.
struct Watcher {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    fn new(inputs: &Inputs) -> Self {
        let (bar, template) = match inputs.size_bytes() {
            Some(size) => (
                ProgressBar::new(size),
                "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {bytes}, {bytes_per_sec}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        Self {
            bar: bar.with_style(style.expect("the template is sound")),
            stop: super::stop_on_interrupt("stopping; once more to stop at once"),
        }
    }

    fn watch(&self, stats: &InputStats) -> ControlFlow<()> {
        self.bar.set_position(stats.file_bytes);
        self.go_on()
    }

    /// Whether nobody asked to stop.
    fn go_on(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Takes the bar away and says what was replaced, if anything was.
    fn finish(&self, inputs: &Inputs) -> InputStats {
        self.bar.finish_and_clear();
        let stats = inputs.stats();
        super::warn_of_replaced(&stats);
        stats
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for a person, of three decimals"
)]
fn ratio(n_bytes: u64, n_tokens: u64) -> f64 {
    n_bytes as f64 / n_tokens.max(1) as f64
}
