//! Compiles every shader with AMD's compiler in Mesa for chips that are not there, and compares
//! registers, waves and spills with a committed table.
//!
//! Mesa's RADV makes a device of any family that `RADV_FORCE_FAMILY` names: it runs nothing, but
//! its compiler is the real one.
//!
//! Usage: `amd_shader_stats SHADERS TABLE NEWER [--write]`, where SHADERS is a folder that
//! `gpu-tlm shaders --format spirv` wrote, and NEWER the root folder of a Debian whose Mesa knows chips
//! that this system's does not. It fails where a shader that GPUs run spills or uses
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

/// Polaris, Vega, RDNA1 to RDNA4, by the names that their Mesa knows.
const FAMILIES: [&str; 6] = [
    "polaris10",
    "vega10",
    "navi10",
    "navi21",
    "navi31",
    "gfx1201",
];
/// The first of those that are left to the newer Mesa. Mesa 22.3 knows no RDNA4, and gives shaders on RDNA3 no
/// more than 132 registers.
const FIRST_NEWER: usize = 4;
/// The child's argument: the family is read by the driver once a process, so each gets its own.
const CHILD: &str = "--one-family";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [CHILD, shaders] => vulkan::print_figures(Path::new(shaders)),
        [shaders, table, newer] => {
            figures(shaders, newer).and_then(|found| table::compare(&found, table))
        }
        [shaders, table, newer, "--write"] => {
            figures(shaders, newer).and_then(|found| table::write(&found, table))
        }
        _ => Err("usage: amd_shader_stats SHADERS TABLE NEWER [--write]".into()),
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
fn figures(shaders: &str, newer: &str) -> Result<table::Figures, Failure> {
    let manifest = std::fs::read_to_string(Path::new(shaders).join("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let entries = manifest["shaders"].as_array().ok_or("no shaders")?;
    let mut found = table::Figures::new(entries);
    let program = std::env::current_exe()?;
    let manifest = radv_manifest(Path::new("/"))?;
    let (older_families, newer_families) = FAMILIES.split_at(FIRST_NEWER);
    for family in older_families {
        add_family(
            &mut found,
            Command::new(&program),
            family,
            &manifest,
            shaders,
        )?;
    }
    let newer = Path::new(newer);
    let manifest = radv_manifest(newer)?;
    for family in newer_families {
        add_family(
            &mut found,
            within(newer, &program),
            family,
            &manifest,
            shaders,
        )?;
    }
    Ok(found)
}

/// Runs `program`, which is this one, as a child for one family, and adds what it says.
fn add_family(
    found: &mut table::Figures,
    mut program: Command,
    family: &str,
    driver: &Path,
    shaders: &str,
) -> Result<(), Failure> {
    let output = program
        .args([CHILD, shaders])
        .env("RADV_FORCE_FAMILY", family)
        .env("VK_ICD_FILENAMES", driver)
        .env("VK_DRIVER_FILES", driver)
        // A cached shader comes without figures.
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{family}: {}\n{said}", output.status).into());
    }
    found.add(&String::from_utf8(output.stdout)?)
}

/// `program` with the loader and all libraries of the system whose root is `newer`: nothing of that one is
/// installed, and its manifest of RADV names no folder.
fn within(newer: &Path, program: &Path) -> Command {
    let libraries = newer.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(libraries).arg(program);
    command
}

/// The file by which Vulkan's loader finds RADV in the system whose root is `root`.
fn radv_manifest(root: &Path) -> Result<PathBuf, Failure> {
    let folder = root.join("usr/share/vulkan/icd.d");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("radeon_icd") && !name.contains("i686")
        })
        .collect();
    found.sort();
    found
        .pop()
        .ok_or_else(|| format!("no radeon_icd*.json in {}", folder.display()).into())
}
