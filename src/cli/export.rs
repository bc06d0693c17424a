//! `gpu-tlm export`: a model for another program.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::model::ModelArgs;
use crate::Error;
use crate::convert::{self, ExportFormat};
use crate::interop::StoredType;

/// Arguments of `gpu-tlm export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    gpu-tlm export --checkpoint runs/latest/checkpoints/latest.safetensors --format hf \\\n      \
    --out my-model\n  \
    gpu-tlm export --checkpoint FILE --format gguf --type q8_0 --out my-model.gguf\n  \
    gpu-tlm export --checkpoint FILE --format pt --out my-model.pt")]
pub struct ExportArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Format to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: ExportFormat,
    /// File to write, or folder of the format hf
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// How tensors are stored; GGUF keeps gains, biases and vectors of positions as f32 [default: f32]
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = StoredType::F32, hide_default_value = true)]
    stored: StoredType,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exports, and says what was done.
///
/// # Errors
/// When a file does not fit, the format cannot hold the model, or the disk says no.
pub fn run(args: &ExportArgs) -> Result<(), Error> {
    let (checkpoint, tokenizer) = args.model.open()?;
    let report = convert::export(
        &checkpoint,
        tokenizer.as_ref(),
        args.format,
        args.stored,
        &args.out,
    )?;
    if args.json {
        let mut value = serde_json::to_value(&report).unwrap_or(Value::Null);
        value["out"] = json!(args.out);
        return super::print_json(&value);
    }
    super::print(&format!("{report}wrote {}\n", args.out.display()))
}
