//! `gpu-tlm shaders`: every kernel as a backend gets it.

use std::path::PathBuf;

use crate::Error;
use crate::gpu::translate::ShaderFormat;
use crate::shaders;

/// Arguments of `gpu-tlm shaders`.
#[derive(Debug, clap::Args)]
pub struct ShadersArgs {
    /// Folder for the shaders and manifest.json; made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Language to write
    #[arg(long, value_enum, default_value = "wgsl")]
    format: ShaderFormat,
}

/// Writes the shaders and says how many.
///
/// # Errors
/// When a shader cannot be translated or a file not be written.
pub fn run(args: &ShadersArgs) -> Result<(), Error> {
    let count = shaders::write_all(&args.out, args.format)?;
    super::print(&format!("{count} shaders in {}\n", args.out.display()))
}
