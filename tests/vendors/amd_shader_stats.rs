//! Compiles every shader with AMD's compiler in Mesa for chips that are not there, and compares
//! registers, waves and spills with a committed table.
//!
//! Mesa's RADV makes a device of any family that `RADV_FORCE_FAMILY` names: it runs nothing, but
//! its compiler is the real one.
//!
//! Usage: `amd_shader_stats SHADERS TABLE [--write]`, where SHADERS is a folder that
//! `gpu-tlm shaders --format spirv` wrote. It fails where a shader that GPUs run spills or uses
//! scratch memory, is worse than in TABLE, or missing from it; with `--write` it writes TABLE.
#![allow(
    unsafe_code,
    reason = "plain Vulkan calls; handles live as long as the process"
)]
#![allow(clippy::print_stdout, reason = "a program's result")]

#[path = "amd/hot_loop.rs"]
mod hot_loop;
#[path = "amd/table.rs"]
mod table;
#[path = "amd/vulkan.rs"]
mod vulkan;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

/// Polaris, Vega, RDNA1, RDNA2 and RDNA3, by the names that Mesa 22.3 knows.
const FAMILIES: [&str; 5] = ["polaris10", "vega10", "navi10", "navi21", "gfx1100"];
/// The child's argument: the family is read by the driver once a process, so each gets its own.
const CHILD: &str = "--one-family";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [CHILD, shaders] => vulkan::print_figures(Path::new(shaders)),
        [shaders, table] => figures(shaders).and_then(|found| table::compare(&found, table)),
        [shaders, table, "--write"] => figures(shaders).and_then(|f| table::write(&f, table)),
        _ => Err("usage: amd_shader_stats SHADERS TABLE [--write]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("amd_shader_stats: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the compiler says of each shader, in the manifest's order.
fn figures(shaders: &str) -> Result<table::Figures, Failure> {
    let manifest = std::fs::read_to_string(Path::new(shaders).join("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let entries = manifest["shaders"].as_array().ok_or("no shaders")?;
    let mut found = table::Figures::new(entries);
    let driver = radv_manifest()?;
    for family in FAMILIES {
        let output = Command::new(std::env::current_exe()?)
            .args([CHILD, shaders])
            .env("RADV_FORCE_FAMILY", family)
            .env("VK_ICD_FILENAMES", &driver)
            .env("VK_DRIVER_FILES", &driver)
            // A cached shader comes without figures.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{family}: {}\n{said}", output.status).into());
        }
        found.add(&String::from_utf8(output.stdout)?)?;
    }
    Ok(found)
}

/// The file by which Vulkan's loader finds RADV.
fn radv_manifest() -> Result<PathBuf, Failure> {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("radeon_icd") && !name.contains("i686")
        })
        .collect();
    found.sort();
    found.pop().ok_or_else(|| {
        "no radeon_icd*.json in /usr/share/vulkan/icd.d; install mesa-vulkan-drivers".into()
    })
}
