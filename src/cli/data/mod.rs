//! `gpu-tlm data`: writes text to train on, and looks at token files.

mod info;

use std::io::{self, BufWriter};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::Error;
use crate::data::corpus::{CorpusSummary, StoryCorpus};
use crate::files;

/// Arguments of `gpu-tlm data`.
#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand, Debug)]
enum DataCommand {
    /// Write stories of the built-in corpus, each followed by <|endoftext|> and a newline
    Stories(StoriesArgs),
    /// What is in a token file: tokens, documents, commonest tokens, its beginning
    #[command(after_long_help = "Example:\n  gpu-tlm data info train.npy --tokenizer tokenizer")]
    Info(info::InfoArgs),
}

#[derive(Args, Debug)]
struct StoriesArgs {
    /// How many stories to write
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "bytes")]
    count: u64,
    /// Write as many stories as reach this many bytes: a number, or one with k, M or G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    bytes: Option<u64>,
    /// Number of the first story; other numbers are other stories
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    first: u64,
    /// Seed of the corpus
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// File to write, replaced only once it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `gpu-tlm data`.
///
/// # Errors
/// If the text cannot be written, or a token file or tokenizer cannot be read, or the two do not belong
/// together.
pub fn run(args: &DataArgs) -> Result<(), Error> {
    match &args.command {
        DataCommand::Stories(args) => write_stories(args),
        DataCommand::Info(args) => info::run(args),
    }
}

fn write_stories(args: &StoriesArgs) -> Result<(), Error> {
    let corpus = StoryCorpus::new(args.seed);
    let stories = match args.bytes {
        Some(size_bytes) => corpus.range_for_bytes(args.first, size_bytes),
        None => args.first..args.first.saturating_add(args.count),
    };
    let written = match &args.out {
        Some(path) => files::write_with(path, |out| corpus.write_text(stories, out)),
        None => corpus.write_text(stories, BufWriter::new(io::stdout().lock())),
    };
    match written {
        Ok(summary) => report(&corpus, summary),
        // The reader, such as `head`, has seen enough.
        Err(error) if args.out.is_none() && error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(source) => {
            let path = args.out.clone().unwrap_or_else(|| "standard output".into());
            return Err(Error::Io {
                action: "write the stories to",
                path,
                source,
            });
        }
    }
    Ok(())
}

fn report(corpus: &StoryCorpus, summary: CorpusSummary) {
    let CorpusSummary {
        stories,
        size_bytes,
        nats,
    } = summary;
    tracing::info!(
        "{stories} stories, {size_bytes} bytes; the grammar's entropy is {:.2} nats a story, \
         and these have {:.2} a story, {:.4} a byte",
        corpus.entropy_per_story(),
        nats / stories.max(1) as f64,
        nats / size_bytes.max(1) as f64,
    );
}

/// Reads a size in bytes: `300`, `20k`, `5M`, `1G`, in powers of 1,000.
fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K', 'M', 'G']) {
        Some(digits) if text.ends_with(['k', 'K']) => (digits, 1_000),
        Some(digits) if text.ends_with('M') => (digits, 1_000_000),
        Some(digits) => (digits, 1_000_000_000),
        None => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "expected a size such as 300000, 300k, 20M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_suffixes() {
        for (text, want) in [
            ("0", Some(0)),
            ("300", Some(300)),
            ("20k", Some(20_000)),
            ("20K", Some(20_000)),
            ("5M", Some(5_000_000)),
            ("1G", Some(1_000_000_000)),
            ("", None),
            ("M", None),
            ("1.5M", None),
            ("-1", None),
            ("99999999999999G", None),
        ] {
            assert_eq!(parse_size(text).ok(), want, "{text}");
        }
    }
}
