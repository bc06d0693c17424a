//! `gpu-tlm tokenizer info`: what a tokenizer is made of.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Error;
use crate::data::npy::Dtype;
use crate::data::tokenizer::{TokenRoles, Tokenizer};

/// Longest tokens that are shown, and how many bytes of each.
const N_LONGEST: usize = 5;
const SHOWN_LEN: usize = 60;

/// Special tokens that are shown to a person; models may have thousands.
const N_SPECIAL: usize = 32;

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
    let roles = TokenRoles::load(&args.tokenizer, &tokenizer)?;
    let longest = longest(&tokenizer);
    if args.json {
        return super::super::print_json(&as_json(&tokenizer, &roles, &longest));
    }
    super::super::print(&as_text(&tokenizer, &roles, &longest))
}

/// Ids of the longest tokens that are not special.
fn longest(tokenizer: &Tokenizer) -> Vec<u32> {
    let specials = tokenizer.special_ids();
    let ids = (0u32..).take(tokenizer.vocab_size());
    let mut longest: Vec<u32> = ids
        .filter(|id| specials.binary_search(id).is_err())
        .collect();
    let len = |id: u32| tokenizer.token_bytes(id).map_or(0, <[u8]>::len);
    longest.sort_by_key(|&id| (std::cmp::Reverse(len(id)), id));
    longest.truncate(N_LONGEST);
    longest
}

fn as_json(tokenizer: &Tokenizer, roles: &TokenRoles, longest: &[u32]) -> Value {
    let special_tokens = tokenizer.special_tokens().iter().map(|token| {
        let mut shown = json!({"id": token.id, "token": token.text});
        if !token.is_control {
            shown["is_text"] = true.into();
        }
        shown
    });
    let longest = longest.iter().map(|&id| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        json!({"id": id, "token": shown(bytes), "bytes": bytes.len()})
    });
    json!({
        "hash": tokenizer.hash(),
        "vocab_size": tokenizer.vocab_size(),
        "merges": tokenizer.n_merges(),
        "split": tokenizer.split().name(),
        "normalizes": tokenizer.normalizes(),
        "ignores_merges": tokenizer.ignores_merges(),
        "missing_bytes": tokenizer.missing_bytes(),
        "unused_ids": tokenizer.unused_tokens().len(),
        "special_tokens": special_tokens.collect::<Vec<_>>(),
        "bos": roles.bos,
        "eos": roles.eos,
        "add_bos": roles.add_bos,
        "chat_template": roles.chat_template,
        "token_files": Dtype::for_vocab(tokenizer.vocab_size()).name(),
        "longest_tokens": longest.collect::<Vec<_>>(),
    })
}

fn as_text(tokenizer: &Tokenizer, roles: &TokenRoles, longest: &[u32]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:16} {value}");
    };
    let token = |id: u32| tokenizer.token_bytes(id).unwrap_or_default();
    line("hash", &tokenizer.hash());
    line("tokens", &tokenizer.vocab_size());
    line("merges", &tokenizer.n_merges());
    let form = if tokenizer.normalizes() {
        ", normal form C"
    } else {
        ""
    };
    let whole = if tokenizer.ignores_merges() {
        ", tokens before merges"
    } else {
        ""
    };
    line(
        "split",
        &format!("{}{form}{whole}", tokenizer.split().name()),
    );
    let missing = tokenizer.missing_bytes();
    if !missing.is_empty() {
        line("missing bytes", &format!("{missing:02x?}"));
    }
    if !tokenizer.unused_tokens().is_empty() {
        line("unused ids", &tokenizer.unused_tokens().len());
    }
    for special in tokenizer.special_tokens().iter().take(N_SPECIAL) {
        line(
            "special token",
            &format!("{} {:?}", special.id, special.text),
        );
    }
    if let Some(more) = tokenizer.special_tokens().len().checked_sub(N_SPECIAL + 1) {
        line("special token", &format!("and {} more", more + 1));
    }
    let roles_of_ids = roles.bos.iter().map(|&id| ("begins a text", id));
    for (role, id) in roles_of_ids.chain(roles.eos.iter().map(|&id| ("ends a text", id))) {
        line(role, &format!("{id} {}", shown(token(id))));
    }
    if let Some(template) = &roles.chat_template {
        line("chat template", &format!("{} bytes", template.len()));
    }
    line(
        "token files",
        &Dtype::for_vocab(tokenizer.vocab_size()).name(),
    );
    for &id in longest {
        let bytes = token(id);
        line(
            "longest tokens",
            &format!("{id} {} ({} bytes)", shown(bytes), bytes.len()),
        );
    }
    text
}

/// The start of a token as text in quotes.
fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN_LEN)];
    let more = if start.len() < bytes.len() { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(start))
}
