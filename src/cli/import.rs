//! `gpu-tlm import`: a model of another program as one of our checkpoints.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::model::BaseArgs;
use crate::Error;
use crate::config::{Resolved, SettingFlags};
use crate::convert;

/// Arguments of `gpu-tlm import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    gpu-tlm import SmolLM2-135M/ --out smollm2.safetensors\n  \
    gpu-tlm import model.gguf --out model.safetensors --tokenizer-out tokenizer\n  \
    gpu-tlm import checkpoint.pt --num-heads 16 --context-length 256 --out model.safetensors\n\n\
    train --init-from, generate, eval, score and serve take the same files as they are; importing one keeps it in \
    one place, in f32, with a checksum of each tensor. docs/interop.md has the formats.")]
pub struct ImportArgs {
    /// File or folder of the model
    #[arg(value_name = "FROM")]
    from: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// Checkpoint to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folder to write the tokenizer to that came with the model
    #[arg(long, value_name = "DIR")]
    tokenizer_out: Option<PathBuf>,
    /// JSON file with keys of the model that the file does not tell
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of query heads, where the file does not tell it
    #[arg(long, value_name = "N")]
    num_heads: Option<usize>,
    /// Longest sequence, where the file does not tell it or another is wanted
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// Base of the rotary angles, where the file does not tell it [default: 10000]
    #[arg(long, value_name = "X")]
    rope_theta: Option<f64>,
    /// Added by norms, where the file does not tell it [default: 1e-5]
    #[arg(long, value_name = "X")]
    norm_eps: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Imports, and says what was done.
///
/// # Errors
/// When the file is missing, damaged, or of a kind that is not supported, or the disk says no.
pub fn run(args: &ImportArgs) -> Result<(), Error> {
    let flags = SettingFlags {
        num_heads: args.num_heads,
        context_length: args.context_length,
        rope_theta: args.rope_theta,
        norm_eps: args.norm_eps,
        ..SettingFlags::default()
    };
    let given = Resolved::load(args.config.as_deref(), &flags)?.given_of_model();
    let tokenizer_out = args.tokenizer_out.as_deref();
    let report = convert::import(
        args.base.open(&args.from)?,
        &given,
        &args.out,
        tokenizer_out,
    )?;
    if args.json {
        let mut value = serde_json::to_value(&report).unwrap_or(Value::Null);
        value["out"] = json!(args.out);
        value["tokenizer_out"] = json!(args.tokenizer_out);
        return super::print_json(&value);
    }
    super::print(&format!("{report}wrote {}\n", args.out.display()))
}
