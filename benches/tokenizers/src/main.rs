//! Holds gpu-tlm's tokenizer against tiktoken-rs and Hugging Face's tokenizers: the same ids for
//! GPT-2's vocabulary, and how long training and encoding take.
//!
//! `make test-tokenizers` runs `equal`, `make bench-tokenizers` runs `speed` and `memory`.

mod equal;
mod gpt2;
mod memory;
mod parquet_files;
mod speed;
mod texts;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["equal"] => equal::run(None),
        ["equal", data] => equal::run(Some(Path::new(data))),
        ["speed"] => speed::run(None),
        ["speed", data] => speed::run(Some(Path::new(data))),
        ["memory"] => memory::run(2_000_000_000),
        ["memory", len] => memory::run(len.parse()?),
        ["memory-of", task, path] => memory::run_task(task, Path::new(path)),
        _ => bail!("usage: tokenizer-comparison equal|speed [FOLDER OF TEXTS], or memory [BYTES]"),
    }
}
