//! `gpu-tlm tokenizer info`: what a tokenizer is made of.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::Error;
use crate::data::npy::Dtype;
use crate::data::tokenizer::Tokenizer;

/// Longest tokens that are shown, and how many bytes of each.
const N_LONGEST: usize = 5;
const SHOWN_LEN: usize = 60;

/// Arguments of `gpu-tlm tokenizer info`.
#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InfoArgs) -> Result<(), Error> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let token = |id: u32| tokenizer.token_bytes(id).unwrap_or_default();
    let ids = || (0u32..).take(tokenizer.vocab_size());
    let specials: Vec<(u32, String)> = tokenizer
        .special_ids()
        .iter()
        .map(|&id| (id, String::from_utf8_lossy(token(id)).into_owned()))
        .collect();
    let mut longest: Vec<u32> = ids()
        .filter(|id| !tokenizer.special_ids().contains(id))
        .collect();
    longest.sort_by_key(|&id| (std::cmp::Reverse(token(id).len()), id));
    longest.truncate(N_LONGEST);
    let n_merges = tokenizer.n_merges();
    let dtype = Dtype::for_vocab(tokenizer.vocab_size()).name();
    if args.json {
        let special_tokens = specials
            .iter()
            .map(|(id, text)| json!({"id": id, "token": text}));
        let longest = longest
            .iter()
            .map(|&id| json!({"id": id, "token": shown(token(id)), "bytes": token(id).len()}));
        return super::super::print_json(&json!({
            "hash": tokenizer.hash(),
            "vocab_size": tokenizer.vocab_size(),
            "merges": n_merges,
            "special_tokens": special_tokens.collect::<Vec<_>>(),
            "token_files": dtype,
            "longest_tokens": longest.collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:16} {value}");
    };
    line("hash", &tokenizer.hash());
    line("tokens", &tokenizer.vocab_size());
    line("merges", &n_merges);
    for (id, special) in &specials {
        line("special token", &format!("{id} {special:?}"));
    }
    line("token files", &dtype);
    for &id in &longest {
        let bytes = token(id);
        line(
            "longest tokens",
            &format!("{id} {} ({} bytes)", shown(bytes), bytes.len()),
        );
    }
    super::super::print(&text)
}

/// The start of a token as text in quotes.
fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN_LEN)];
    let more = if start.len() < bytes.len() { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(start))
}
