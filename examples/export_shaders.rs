//! Writes a JSON file with every shader, and with rows of the parity check for the kernels that
//! are named: `cargo run --example export_shaders -- FILE [KERNEL...]`.
//!
//! `scripts/webgpu/check.py` gives it to a browser.

use std::fs::File;
use std::io::{BufWriter, Write};

use gpu_tlm::check;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        anyhow::bail!("usage: export_shaders FILE [KERNEL...]");
    };
    let names: Vec<String> = arguments.collect();
    let exported = check::export(|row| names.contains(&row.kernel.label()));
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, &exported)?;
    file.flush()?;
    Ok(())
}
