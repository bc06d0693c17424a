//! `gpu-tlm tokenizer convert`: from one format to another.

use std::path::PathBuf;

use crate::Error;
use crate::data::tokenizer::{Format, TokenRoles, Tokenizer};

/// Arguments of `gpu-tlm tokenizer convert`.
#[derive(Debug, clap::Args)]
pub(super) struct ConvertArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Its format, where a folder has several that differ
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<FormatName>,
    /// Format to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: FormatName,
    /// Special tokens of a .tiktoken file, which has none of its own; they get the free ids
    #[arg(long = "special-token", value_name = "S", num_args = 1..)]
    special_tokens: Vec<String>,
    /// Directory to write to, made if needed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatName {
    /// vocab.json and merges.txt
    Gpt2,
    /// vocab.json of hexadecimal bytes and merges.pkl
    Cs336,
    /// tokenizer.json and tokenizer_config.json
    HuggingFace,
    /// tokenizer.tiktoken, without the special tokens
    Tiktoken,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Gpt2 => Self::Gpt2,
            FormatName::Cs336 => Self::Cs336,
            FormatName::HuggingFace => Self::HuggingFace,
            FormatName::Tiktoken => Self::Tiktoken,
        }
    }
}

pub(super) fn run(args: &ConvertArgs) -> Result<(), Error> {
    let from = args.from.map(Format::from);
    let tokenizer = Tokenizer::load_with(&args.tokenizer, from, &args.special_tokens)?;
    let roles = TokenRoles::load(&args.tokenizer, &tokenizer)?;
    let to = Format::from(args.to);
    tokenizer.save_with(to, &args.out, &roles)?;
    if to != Format::HuggingFace && roles.chat_template.is_some() {
        tracing::warn!(
            "{} has no place for the chat template: it is left out",
            to.name()
        );
    }
    if to == Format::Tiktoken && !tokenizer.special_ids().is_empty() {
        let ids = tokenizer.special_ids();
        tracing::warn!("ranks have no place for special tokens: ids {ids:?} are left out");
    }
    tracing::info!(
        "{} tokens as {}: {}",
        tokenizer.vocab_size(),
        to.name(),
        args.out.display()
    );
    Ok(())
}
