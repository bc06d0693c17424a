//! `gpu-tlm tokenizer decode`: turns token ids back into text.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ratio;
use crate::Error;
use crate::data::input::utf8::Utf8Decoder;
use crate::data::npy::TokenFile;
use crate::data::tokenizer::{Tokenizer, TokenizerError};
use crate::files::WholeFile;

/// Ids that are decoded at a time.
const DECODE_LEN: usize = 1 << 18;

/// Arguments of `gpu-tlm tokenizer decode`.
#[derive(Debug, clap::Args)]
pub(super) struct DecodeArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Token file to decode [default: ids as numbers from standard input]
    #[arg(long, value_name = "X.npy")]
    input: Option<PathBuf>,
    /// Text file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write bytes that are no UTF-8 as they are
    #[arg(long)]
    raw: bool,
    /// Decode a token file that another tokenizer made
    #[arg(long)]
    ignore_tokenizer_mismatch: bool,
}

pub(super) fn run(args: &DecodeArgs) -> Result<(), Error> {
    let start = Instant::now();
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let file = args.input.as_deref().map(TokenFile::open).transpose()?;
    if let Some(file) = &file {
        if !args.ignore_tokenizer_mismatch {
            file.expect_tokenizer(&tokenizer.hash())?;
        }
        file.check_vocab(tokenizer.vocab_size())?;
    }
    let mut ids = match file {
        Some(file) => Ids::File { file, at: 0 },
        None => Ids::Numbers(Numbers::default()),
    };
    let (n_tokens, n_bytes) = match &args.out {
        None => {
            let mut out = TextOut::new(io::stdout().lock(), Path::new("standard output"), args.raw);
            out.write(&tokenizer, &mut ids)?;
            (out.n_tokens, out.n_bytes)
        }
        Some(path) => {
            let failed = |cause| write_error(path, cause);
            let file = WholeFile::begin(path).map_err(failed)?;
            let mut out = TextOut::new(file, path, args.raw);
            out.write(&tokenizer, &mut ids)?;
            out.out.commit().map_err(failed)?;
            (out.n_tokens, out.n_bytes)
        }
    };
    tracing::info!(
        "decoded {n_tokens} tokens as {n_bytes} bytes ({:.3} bytes a token) in {:.1} s",
        ratio(n_bytes, n_tokens),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Text that is written as its tokens come.
struct TextOut<'p, W> {
    out: W,
    path: &'p Path,
    /// `None` writes bytes as they are.
    decoder: Option<Utf8Decoder>,
    n_tokens: u64,
    n_bytes: u64,
}

impl<'p, W: Write> TextOut<'p, W> {
    fn new(out: W, path: &'p Path, is_raw: bool) -> Self {
        Self {
            out,
            path,
            decoder: (!is_raw).then(|| Utf8Decoder::new(true)),
            n_tokens: 0,
            n_bytes: 0,
        }
    }

    fn write(&mut self, tokenizer: &Tokenizer, ids: &mut Ids) -> Result<(), Error> {
        let mut text = String::new();
        loop {
            let block = ids.next_block()?;
            let is_end = block.is_empty();
            let bytes = tokenizer
                .decode(&block)
                .map_err(|error| error.shifted_by(self.n_tokens))?;
            self.n_tokens += block.len() as u64;
            text.clear();
            let bytes = match &mut self.decoder {
                None => &bytes,
                Some(decoder) => {
                    // A lossy decoder refuses nothing.
                    let _ = decoder.push(&bytes, is_end, &mut text);
                    text.as_bytes()
                }
            };
            self.n_bytes += bytes.len() as u64;
            match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
                // Whoever reads standard output has seen enough, as `head` does.
                Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|cause| write_error(self.path, cause))?,
            }
            if is_end {
                return Ok(());
            }
        }
    }
}

/// Where ids come from.
enum Ids {
    File { file: TokenFile, at: usize },
    Numbers(Numbers),
}

impl Ids {
    /// The next ids, or none after the last.
    fn next_block(&mut self) -> Result<Vec<u32>, Error> {
        match self {
            Self::File { file, at } => {
                let end = file.len().min(*at + DECODE_LEN);
                let ids = file.get(*at..end)?;
                *at = end;
                Ok(ids)
            }
            Self::Numbers(numbers) => numbers.next_block(),
        }
    }
}

/// Decimal numbers on standard input, with white space or commas between.
#[derive(Default)]
struct Numbers {
    /// The beginning of a number that may go on in the next block.
    waiting: Vec<u8>,
    /// Bytes before those that wait.
    offset: u64,
    is_at_end: bool,
}

impl Numbers {
    fn next_block(&mut self) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        let mut block = vec![0; DECODE_LEN];
        while ids.is_empty() && !self.is_at_end {
            let len = io::stdin()
                .read(&mut block)
                .map_err(crate::error::io("read", "standard input"))?;
            self.is_at_end = len == 0;
            self.waiting.extend_from_slice(&block[..len]);
            let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
            let end = match self.waiting.iter().rposition(is_between) {
                _ if self.is_at_end => self.waiting.len(),
                Some(last) => last + 1,
                None => 0,
            };
            let rest = self.waiting.split_off(end);
            let whole = std::mem::replace(&mut self.waiting, rest);
            let mut at = self.offset;
            for number in whole.split(is_between) {
                if !number.is_empty() {
                    let text = String::from_utf8_lossy(number);
                    ids.push(text.parse().map_err(|_| TokenizerError::NoId {
                        text: text.into_owned(),
                        offset: at,
                    })?);
                }
                at += number.len() as u64 + 1;
            }
            self.offset += whole.len() as u64;
        }
        Ok(ids)
    }
}

fn write_error(path: &Path, cause: io::Error) -> TokenizerError {
    TokenizerError::Write {
        path: path.to_owned(),
        cause,
    }
}
