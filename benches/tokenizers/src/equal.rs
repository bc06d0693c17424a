//! The same ids as tiktoken-rs, and as Hugging Face's where these two agree.

use std::path::Path;

use anyhow::{Result, ensure};
use gpu_tlm::data::tokenizer::Tokenizer;
use gpu_tlm::data::tokenizer::train::{SpecialIds, TrainOptions, train};
use rayon::prelude::*;

use super::gpt2::{END_OF_TEXT, Gpt2};
use super::texts;

/// Strings that are drawn.
const N_DRAWN: u64 = 100_000;

/// Longest run of one character; tiktoken-rs and Hugging Face's take long over longer ones.
const RUN_LEN: usize = 20_000;

pub(crate) fn run(data: Option<&Path>) -> Result<()> {
    let gpt2 = Gpt2::load()?;
    every_character(&gpt2)?;
    long_runs(&gpt2)?;
    drawn_strings(&gpt2)?;
    super::parquet_files::check()?;
    match data {
        None => {
            println!("no folder of texts was given: files and the reference merges are left out")
        }
        Some(data) => {
            data_files(&gpt2, data)?;
            let bpe = data.join("bpe");
            if bpe.join("train-bpe-reference-merges.txt").exists() {
                reference_merges(&bpe)?;
            }
            if bpe.join("gpt2_merges.txt").exists() {
                openai_files(&gpt2, &bpe)?;
            }
        }
    }
    println!("all equal");
    Ok(())
}

/// Compares one text, and says whether Hugging Face's agrees too.
fn compare(gpt2: &Gpt2, text: &str) -> Result<bool> {
    let [ours, tiktoken, hugging_face] = gpt2.encode(text)?;
    ensure!(
        ours == tiktoken,
        "ids of {:?} differ: ours {ours:?}, tiktoken-rs {tiktoken:?}",
        text.chars().take(200).collect::<String>()
    );
    ensure!(
        gpt2.ours.decode(&ours)? == text.as_bytes(),
        "decoding does not give back {text:?}"
    );
    Ok(hugging_face == tiktoken)
}

/// Compares all of `texts` and prints a line.
fn compare_all(gpt2: &Gpt2, what: &str, texts: impl ParallelIterator<Item = String>) -> Result<()> {
    let agreed = texts
        .map(|text| compare(gpt2, &text))
        .collect::<Result<Vec<bool>>>()?;
    let n_agreed = agreed.iter().filter(|&&agrees| agrees).count();
    let n = agreed.len();
    println!("{what}: {n} equal to tiktoken-rs, of which Hugging Face's agrees on {n_agreed}");
    Ok(())
}

/// Each character beside others. Before `'s` it shows whether it is one of those signs that take
/// the apostrophe with them, and after white space whether it is white space itself.
fn every_character(gpt2: &Gpt2) -> Result<()> {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    let blocks = all.par_chunks(256).map(|block| {
        let around = |c: &char| format!("{c}'s  {c}'ll !{c}! a{c}a 1{c}1 {c}{c}  {c}");
        block.iter().map(around).collect::<Vec<_>>().join("\n")
    });
    compare_all(gpt2, "blocks of 256 characters, all of Unicode", blocks)
}

fn long_runs(gpt2: &Gpt2) -> Result<()> {
    let runs = [
        "a", " ", "\n", "1", "!", "é", "日", "👍", "\u{3000}", "ab", " a", "the",
    ];
    let lens = [127, 128, 129, 1_000, RUN_LEN];
    let texts: Vec<String> = runs
        .iter()
        .flat_map(|run| lens.map(|len| run.repeat(len) + "x"))
        .collect();
    compare_all(gpt2, "long runs", texts.into_par_iter())
}

fn drawn_strings(gpt2: &Gpt2) -> Result<()> {
    let strings = (0..N_DRAWN).into_par_iter().map(texts::drawn);
    compare_all(gpt2, "drawn strings", strings)
}

fn data_files(gpt2: &Gpt2, data: &Path) -> Result<()> {
    let files = texts::files(data)?;
    let names: Vec<_> = files
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    let what = format!("files ({})", names.join(", "));
    compare_all(gpt2, &what, files.into_par_iter().map(|(_, text)| text))
}

/// Training on `corpus.en` gives the merges of the reference.
fn reference_merges(bpe: &Path) -> Result<()> {
    let corpus = std::fs::read_to_string(bpe.join("corpus.en"))?;
    let options = TrainOptions {
        vocab_size: 500,
        special_tokens: vec![END_OF_TEXT.to_owned()],
        special_ids: SpecialIds::First,
    };
    let folder = tempfile::tempdir()?;
    train(&[&corpus], &options)?.save(folder.path())?;
    let found = std::fs::read_to_string(folder.path().join("merges.txt"))?;
    let wanted = std::fs::read_to_string(bpe.join("train-bpe-reference-merges.txt"))?;
    let n_equal = found
        .lines()
        .zip(wanted.lines())
        .take_while(|(a, b)| a == b)
        .count();
    let n_wanted = wanted.lines().count();
    ensure!(
        n_equal == n_wanted && found.lines().count() == n_wanted,
        "merge {} of the reference differs",
        n_equal + 1
    );
    println!("merges learnt from corpus.en: {n_equal} equal to the reference");
    Ok(())
}

/// GPT-2's own vocab.json and merges.txt are the tokenizer that came out of tiktoken's ranks.
fn openai_files(gpt2: &Gpt2, bpe: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(bpe.join(format!("gpt2_{name}")), folder.path().join(name))?;
    }
    let loaded = Tokenizer::load(folder.path())?;
    ensure!(
        loaded.hash() == gpt2.ours.hash(),
        "GPT-2's own files and tiktoken's ranks differ"
    );
    println!("GPT-2's own vocab.json and merges.txt are tiktoken's ranks");
    Ok(())
}
