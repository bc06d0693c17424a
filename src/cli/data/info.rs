//! `gpu-tlm data info`: what is in a token file.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Error;
use crate::cli::{print, print_json};
use crate::data::npy::TokenFile;
use crate::data::token_stats::TokenStats;
use crate::data::tokenizer::{END_OF_TEXT, Tokenizer};

/// Tokens that are listed, and those of the excerpt.
const N_COMMONEST: usize = 10;
const EXCERPT_LEN: usize = 80;

/// Arguments of `gpu-tlm data info`.
#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// Token file
    #[arg(value_name = "X.npy")]
    file: PathBuf,
    /// Folder or file of the tokenizer that made it, to show text and to count documents
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Look at a token file that another tokenizer made
    #[arg(long)]
    ignore_tokenizer_mismatch: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is said of a token file.
struct Info {
    file: TokenFile,
    stats: TokenStats,
    tokenizer: Option<Tokenizer>,
    end_of_text: Option<u32>,
    tokenizer_hash: Option<String>,
    n_documents: Option<u64>,
    text: Option<Text>,
}

/// What is shown with a tokenizer alone.
struct Text {
    bytes_a_token: f64,
    excerpt: String,
}

pub(super) fn run(args: &InfoArgs) -> Result<(), Error> {
    let file = TokenFile::open(&args.file)?;
    let tokenizer = args.tokenizer.as_deref().map(Tokenizer::load).transpose()?;
    let side_car = file.side_car()?;
    if let Some(tokenizer) = &tokenizer {
        if !args.ignore_tokenizer_mismatch {
            file.expect_tokenizer(&tokenizer.hash())?;
        }
        file.check_vocab(tokenizer.vocab_size())?;
    }
    let end_of_text = tokenizer.as_ref().and_then(|t| t.token_id(END_OF_TEXT));
    let stats = TokenStats::of(&file, end_of_text)?;
    let text = tokenizer.as_ref().map(|t| text_of(&file, &stats, t));
    let info = Info {
        n_documents: match end_of_text {
            Some(_) => Some(stats.documents.n),
            None => side_car.as_ref().map(|side_car| side_car.documents),
        },
        text: text.transpose()?,
        tokenizer_hash: side_car.map(|side_car| side_car.tokenizer_hash),
        file,
        stats,
        tokenizer,
        end_of_text,
    };
    if args.json {
        print_json(&info.json())
    } else {
        print(&info.lines())
    }
}

impl Info {
    fn json(&self) -> Value {
        let commonest = self
            .commonest()
            .iter()
            .map(|&(id, count)| json!({"id": id, "token": self.shown(id), "count": count}));
        let lengths = self.end_of_text.map(|_| {
            let lengths = self.stats.documents;
            json!({
                "mean": mean(lengths.total, lengths.n),
                "shortest": lengths.shortest,
                "longest": lengths.longest,
            })
        });
        let (lowest, highest) = self.range();
        json!({
            "tokens": self.file.len(),
            "dtype": self.file.dtype().name(),
            "lowest_id": lowest,
            "highest_id": highest,
            "distinct_ids": self.stats.counts.len(),
            "tokenizer_hash": self.tokenizer_hash,
            "documents": self.n_documents,
            "tokens_a_document": lengths,
            "bytes_a_token": self.text.as_ref().map(|text| text.bytes_a_token),
            "commonest": commonest.collect::<Vec<Value>>(),
            "excerpt": self.text.as_ref().map(|text| &text.excerpt),
        })
    }

    fn lines(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(out, "{name:18} {value}");
        };
        line("tokens", &self.file.len());
        line("type", &self.file.dtype().name());
        if let (Some(lowest), Some(highest)) = self.range() {
            let distinct = self.stats.counts.len();
            line(
                "ids",
                &format!("{lowest} to {highest}, {distinct} distinct"),
            );
        }
        let unknown = "unknown, since there is no side-car";
        line(
            "tokenizer",
            &self.tokenizer_hash.as_deref().unwrap_or(unknown),
        );
        if let Some(n) = self.n_documents {
            line("documents", &n);
        }
        if self.end_of_text.is_some() {
            let lengths = self.stats.documents;
            let mean = mean(lengths.total, lengths.n);
            let range = format!("{} to {}", lengths.shortest, lengths.longest);
            line("tokens a document", &format!("{mean:.1} ({range})"));
        }
        if let Some(text) = &self.text {
            line("bytes a token", &format!("{:.3}", text.bytes_a_token));
        }
        for &(id, count) in self.commonest() {
            let share = 100.0 * mean(count, self.file.len() as u64);
            let token = self
                .shown(id)
                .map_or(String::new(), |token| format!(" {token:?}"));
            line("commonest", &format!("{id}{token}: {count} ({share:.2} %)"));
        }
        if let Some(text) = &self.text {
            line("starts with", &format!("{:?}", text.excerpt));
        }
        out
    }

    fn commonest(&self) -> &[(u32, u64)] {
        &self.stats.counts[..self.stats.counts.len().min(N_COMMONEST)]
    }

    /// Lowest and highest id, where there is any.
    fn range(&self) -> (Option<u32>, Option<u32>) {
        let ids = self.stats.counts.iter().map(|&(id, _)| id);
        (ids.clone().min(), ids.max())
    }

    /// A token as text, where a tokenizer was given.
    fn shown(&self, id: u32) -> Option<String> {
        let bytes = self.tokenizer.as_ref()?.token_bytes(id)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn text_of(file: &TokenFile, stats: &TokenStats, tokenizer: &Tokenizer) -> Result<Text, Error> {
    let bytes =
        |&(id, count): &(u32, u64)| tokenizer.token_bytes(id).map_or(0, <[u8]>::len) as u64 * count;
    let n_bytes: u64 = stats.counts.iter().map(bytes).sum();
    let start = tokenizer.decode(&file.get(0..file.len().min(EXCERPT_LEN))?)?;
    Ok(Text {
        bytes_a_token: mean(n_bytes, file.len() as u64),
        excerpt: String::from_utf8_lossy(&start).into_owned(),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for a person, of a few decimals"
)]
fn mean(total: u64, n: u64) -> f64 {
    total as f64 / n.max(1) as f64
}
