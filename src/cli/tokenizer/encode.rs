//! `gpu-tlm tokenizer encode`: turns text into token files.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::time::Instant;

use super::{InputArgs, Watcher, ratio};
use crate::Error;
use crate::data::encode_files::{Target, Validation, encode_files};
use crate::data::tokenizer::{END_OF_TEXT, Tokenizer, TokenizerError};

/// Arguments of `gpu-tlm tokenizer encode`.
#[derive(Debug, clap::Args)]
pub(super) struct EncodeArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    #[command(flatten)]
    input: InputArgs,
    /// Token file to write [default: ids on standard output]
    #[arg(long, value_name = "X.npy")]
    out: Option<PathBuf>,
    /// Token that parts documents, which are joined by it
    #[arg(long, value_name = "TOKEN", default_value = END_OF_TEXT)]
    end_of_text: String,
    /// Part of the documents that goes to --val-out, from 0 to 1
    #[arg(long, value_name = "F", requires_all = ["val_out", "out"], value_parser = parse_fraction)]
    val_fraction: Option<f64>,
    /// Token file for the documents of --val-fraction
    #[arg(long, value_name = "Y.npy", requires = "val_fraction")]
    val_out: Option<PathBuf>,
    /// Chooses the documents of --val-fraction
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &EncodeArgs) -> Result<(), Error> {
    let start = Instant::now();
    if let Some(path) = args.val_out.clone().filter(|_| args.val_out == args.out) {
        return Err(TokenizerError::SameOutput { path }.into());
    }
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let end_of_text = tokenizer.token_id(&args.end_of_text);
    if end_of_text.is_none() && args.end_of_text != END_OF_TEXT {
        return Err(TokenizerError::NoSuchToken {
            token: args.end_of_text.clone(),
        }
        .into());
    }
    let mut inputs = args.input.open()?;
    let validation = match (&args.val_out, args.val_fraction) {
        (Some(path), Some(fraction)) => Some(Validation {
            path: path.clone(),
            fraction,
            seed: args.seed,
        }),
        _ => None,
    };
    let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout());
    let target = match &args.out {
        Some(path) => Target::File(path.clone()),
        None => Target::Text(&mut stdout),
    };
    let watcher = Watcher::new(&inputs);
    let outputs = (target, validation.as_ref());
    let watch = &mut |stats: &_| watcher.watch(stats);
    let encoded = encode_files(&tokenizer, &mut inputs, end_of_text, outputs, watch);
    let stats = watcher.finish(&inputs);
    let written = match encoded {
        // Whoever reads standard output has seen enough, as `head` does.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(());
        }
        encoded => encoded?,
    };
    let n_tokens = written.iter().map(|file| file.tokens).sum();
    tracing::info!(
        "encoded {} bytes as {n_tokens} tokens ({:.3} bytes a token) in {:.1} s",
        stats.text_bytes,
        ratio(stats.text_bytes, n_tokens),
        start.elapsed().as_secs_f64(),
    );
    for (path, file) in args.out.iter().chain(&args.val_out).zip(&written) {
        let (tokens, documents) = (file.tokens, file.documents);
        tracing::info!("{}: {tokens} tokens, {documents} documents", path.display());
    }
    Ok(())
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))
        .ok_or_else(|| "expected a number from 0 to 1, such as 0.01".to_owned())
}
