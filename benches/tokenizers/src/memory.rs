//! Time and peak memory of training and encoding, each in a process of its own, on generated files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gpu_tlm::data::corpus::StoryCorpus;
use gpu_tlm::data::encode_files::{Target, encode_files};
use gpu_tlm::data::input::{InputOptions, Inputs};
use gpu_tlm::data::stream;
use gpu_tlm::data::tokenizer::Tokenizer;
use gpu_tlm::data::tokenizer::train::{TrainOptions, Trainer};
use gpu_tlm::random::{Philox, Stream};

use super::gpt2::END_OF_TEXT;

const VOCAB_SIZE: usize = 10_000;

/// Writes `len` bytes of two kinds of text, and runs each task on them.
pub(crate) fn run(len: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("text.txt");
    let out = || -> Result<BufWriter<File>> { Ok(BufWriter::new(File::create(&path)?)) };
    let stories = StoryCorpus::new(0);
    stories.write_text(stories.range_for_bytes(0, len), out()?)?;
    measure("built-in stories", &path)?;
    let n_distinct = write_words(len, out()?)?;
    measure(
        &format!("{n_distinct} distinct words, the n-th as frequent as 1/n"),
        &path,
    )
}

fn measure(what: &str, path: &Path) -> Result<()> {
    println!("{} bytes, {what}:", path.metadata()?.len());
    for task in ["train", "encode"] {
        let program = std::env::current_exe()?;
        let status = Command::new(program)
            .args(["memory-of", task])
            .arg(path)
            .status()?;
        ensure!(status.success(), "{task} failed");
    }
    Ok(())
}

/// Runs one task in this process and prints what it took.
pub(crate) fn run_task(task: &str, path: &Path) -> Result<()> {
    let folder = path.parent().context("the file has no folder")?;
    let start = Instant::now();
    let mut inputs = Inputs::open(&[path.to_owned()], InputOptions::default())?;
    let watch = &mut |_: &_| ControlFlow::Continue(());
    match task {
        "train" => {
            let trainer = Trainer::new(TrainOptions {
                vocab_size: VOCAB_SIZE,
                special_tokens: vec![END_OF_TEXT.to_owned()],
                ..TrainOptions::default()
            })?;
            stream::count(&mut inputs, &trainer, watch)?;
            trainer.finish()?.save(folder)?;
        }
        "encode" => {
            let tokenizer = Tokenizer::load(folder)?;
            let end = tokenizer.token_id(END_OF_TEXT);
            let target = Target::File(folder.join("tokens.npy"));
            encode_files(&tokenizer, &mut inputs, end, (target, None), watch)?;
        }
        _ => bail!("no task {task:?}"),
    }
    let elapsed_s = start.elapsed().as_secs_f64();
    let mb_per_s = inputs.stats().text_bytes as f64 / elapsed_s / 1e6;
    println!(
        "  {task:7} {elapsed_s:7.2} s, {mb_per_s:6.1} MB/s, peak memory {:6.1} MB",
        peak_mb()?
    );
    Ok(())
}

/// Words of three to twelve letters by Zipf's law, until `len` bytes are written; gives how many
/// there are to draw from.
fn write_words(len: u64, mut out: BufWriter<File>) -> Result<usize> {
    let n_distinct = usize::try_from(len / 400)?;
    let philox = Philox::new(1, Stream::Corpus);
    let mut words = Vec::with_capacity(n_distinct);
    for number in 0..n_distinct {
        let [a, b, ..] = philox.block(number as u64);
        let mut bits = u64::from(a) | u64::from(b) << 32;
        let mut word = String::from(" ");
        for _ in 0..3 + bits % 10 {
            word.push(char::from(b'a' + (bits % 26) as u8));
            bits /= 26;
            bits ^= u64::from(b);
        }
        words.push(word);
    }
    let (mut written, mut counter) = (0, n_distinct as u64);
    while written < len {
        // The inverse of the distribution's sum, which is nearly a logarithm.
        let rank = (n_distinct as f64).powf(philox.uniform(counter)) as usize;
        let word = words[rank.min(n_distinct - 1)].as_bytes();
        out.write_all(word)?;
        counter += 1;
        written += word.len() as u64;
        if counter % 12 == 0 {
            out.write_all(b".\n")?;
            written += 2;
        }
    }
    out.flush()?;
    Ok(n_distinct)
}

/// The most memory that this process has held, by Linux's account.
fn peak_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmHWM in /proc/self/status")?
        .trim()
        .parse()?;
    Ok(kb * 1024.0 / 1e6)
}
