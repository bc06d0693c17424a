//! `gpu-tlm tokenizer`: learns a vocabulary, and turns text into token files and back.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use atomic_write_file::AtomicWriteFile;
use clap::{Args, Subcommand};

use crate::Error;
use crate::data::npy::{TokenFile, TokenWriter};
use crate::data::tokenizer::train::{TrainOptions, train};
use crate::data::tokenizer::{TextFile, Tokenizer, TokenizerError};

/// The token between documents, where a vocabulary has it.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Ids that are decoded at a time.
const DECODE_LEN: usize = 1 << 20;

/// Arguments of `gpu-tlm tokenizer`.
#[derive(Debug, Args)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Learn a byte-level BPE vocabulary from text files
    #[command(
        long_about = "Learn a byte-level BPE vocabulary from text files.\n\n\
            Writes vocab.json and merges.txt, in the format of GPT-2's tokenizer. Each file is a \
            document of its own; text is split at special tokens, and no token reaches across.",
        after_long_help = "Example:\n  gpu-tlm tokenizer train --input stories.txt \
            --vocab-size 10000 --out tokenizer"
    )]
    Train(TrainArgs),
    /// Turn text files into one file of token ids
    #[command(
        long_about = "Turn text files into one file of token ids.\n\n\
            Writes a NumPy .npy file of uint16, or of uint32 for a vocabulary of more than 65,536 \
            tokens. Between the files stands <|endoftext|>, where the vocabulary has it.",
        after_long_help = "Example:\n  gpu-tlm tokenizer encode --tokenizer tokenizer \
            --input stories.txt --out train.npy"
    )]
    Encode(EncodeArgs),
    /// Turn a file of token ids back into text
    #[command(
        long_about = "Turn a file of token ids back into text.\n\n\
            Writes the tokens' bytes as they are, which need not be UTF-8 where the ids start or \
            end within a character.",
        after_long_help = "Example:\n  gpu-tlm tokenizer decode --tokenizer tokenizer \
            --input train.npy | head"
    )]
    Decode(DecodeArgs),
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Text files to learn from, in UTF-8
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Number of tokens to learn, with the 256 bytes and the special tokens
    #[arg(long, value_name = "N")]
    vocab_size: usize,
    /// Token that is never split or merged; may be given more than once
    #[arg(long = "special-token", value_name = "S", default_values_t = [END_OF_TEXT.to_owned()])]
    special_tokens: Vec<String>,
    /// Directory for vocab.json and merges.txt, made if needed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct EncodeArgs {
    /// Directory of vocab.json and merges.txt
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// Text files to encode, in UTF-8
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Token file to write
    #[arg(long, value_name = "X.npy")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct DecodeArgs {
    /// Directory of vocab.json and merges.txt
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// Token file to decode
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Text file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs one of the subcommands.
///
/// # Errors
///
/// If a file cannot be read or written or is damaged, a text is not UTF-8, or the vocabulary asked
/// for is not possible.
pub fn run(args: &TokenizerArgs) -> Result<(), Error> {
    match &args.command {
        TokenizerCommand::Train(args) => run_train(args),
        TokenizerCommand::Encode(args) => run_encode(args),
        TokenizerCommand::Decode(args) => run_decode(args),
    }
}

fn run_train(args: &TrainArgs) -> Result<(), Error> {
    let start = Instant::now();
    let files = open_all(&args.input)?;
    let texts = files
        .iter()
        .map(TextFile::text)
        .collect::<Result<Vec<_>, _>>()?;
    let options = TrainOptions {
        vocab_size: args.vocab_size,
        special_tokens: args.special_tokens.clone(),
    };
    let tokenizer = train(&texts, &options)?;
    tokenizer.save(&args.out)?;
    tracing::info!(
        "learnt {} tokens from {} bytes in {:.1} s: {}",
        tokenizer.vocab_size(),
        texts.iter().map(|text| text.len()).sum::<usize>(),
        start.elapsed().as_secs_f64(),
        args.out.display()
    );
    Ok(())
}

fn run_encode(args: &EncodeArgs) -> Result<(), Error> {
    let start = Instant::now();
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let end_of_text = tokenizer.token_id(END_OF_TEXT);
    let files = open_all(&args.input)?;
    let mut writer = TokenWriter::create(&args.out, tokenizer.vocab_size())?;
    let mut n_bytes = 0;
    for (index, file) in files.iter().enumerate() {
        if index > 0 {
            writer.push(end_of_text.as_slice())?;
        }
        let text = file.text()?;
        for ids in tokenizer.encode_blocks(text) {
            writer.push(&ids)?;
        }
        n_bytes += text.len();
    }
    let n_tokens = writer.len();
    writer.finish()?;
    tracing::info!(
        "encoded {n_bytes} bytes as {n_tokens} tokens ({:.3} bytes per token) in {:.1} s: {}",
        ratio(n_bytes, n_tokens),
        start.elapsed().as_secs_f64(),
        args.out.display()
    );
    Ok(())
}

fn run_decode(args: &DecodeArgs) -> Result<(), Error> {
    let start = Instant::now();
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let tokens = TokenFile::open(&args.input)?;
    tokens.check_vocab(tokenizer.vocab_size())?;
    let n_bytes = match &args.out {
        None => {
            let out = io::stdout().lock();
            decode_to(&tokenizer, &tokens, out, Path::new("standard output"))?.1
        }
        Some(path) => {
            let failed = |cause| write_error(path, cause);
            let out = AtomicWriteFile::open(path).map_err(failed)?;
            let (out, n_bytes) = decode_to(&tokenizer, &tokens, out, path)?;
            out.commit().map_err(failed)?;
            n_bytes
        }
    };
    tracing::info!(
        "decoded {} tokens as {n_bytes} bytes ({:.3} bytes per token) in {:.1} s",
        tokens.len(),
        ratio(n_bytes, tokens.len()),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Writes the tokens' bytes to `out`, whose name is `path`; gives it back with their number.
fn decode_to<W: Write>(
    tokenizer: &Tokenizer,
    tokens: &TokenFile,
    mut out: W,
    path: &Path,
) -> Result<(W, usize), Error> {
    let failed = |cause| write_error(path, cause);
    let mut n_bytes = 0;
    for start in (0..tokens.len()).step_by(DECODE_LEN) {
        let end = tokens.len().min(start + DECODE_LEN);
        let bytes = tokenizer.decode(&tokens.get(start..end))?;
        match out.write_all(&bytes) {
            // Whoever reads standard output has seen enough, as `head` does.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok((out, n_bytes)),
            written => written.map_err(failed)?,
        }
        n_bytes += bytes.len();
    }
    out.flush().map_err(failed)?;
    Ok((out, n_bytes))
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<TextFile>, TokenizerError> {
    paths.iter().map(|path| TextFile::open(path)).collect()
}

fn write_error(path: &Path, cause: io::Error) -> TokenizerError {
    TokenizerError::Write {
        path: path.to_owned(),
        cause,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for a person, of three decimals"
)]
fn ratio(n_bytes: usize, n_tokens: usize) -> f64 {
    n_bytes as f64 / n_tokens.max(1) as f64
}
