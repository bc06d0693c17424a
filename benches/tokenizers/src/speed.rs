//! How long training and encoding take, on the same text in one run.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};
use gpu_tlm::data::input::{InputOptions, Inputs};
use gpu_tlm::data::stream;
use gpu_tlm::data::tokenizer::train::{TrainOptions, Trainer};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use super::gpt2::{END_OF_TEXT, Gpt2};
use super::texts;

/// Bytes of the text.
const LEN: usize = 80_000_000;
const VOCAB_SIZE: usize = 10_000;
const N_THREADS: usize = 2;
/// Timings of the quick ones, of which the median counts; the slow ones are timed once.
const N_TIMINGS: usize = 5;

pub(crate) fn run(data: Option<&Path>) -> Result<()> {
    // Read by both thread pools before their first use.
    rayon::ThreadPoolBuilder::new()
        .num_threads(N_THREADS)
        .build_global()?;
    let (text, about) = texts::mixture(data, LEN)?;
    println!("{} bytes: {about}", text.len());
    encoding(&text)?;
    training(&text)?;
    one_line()
}

fn training(text: &str) -> Result<()> {
    println!("training, vocabulary {VOCAB_SIZE}, {N_THREADS} threads, from a file:");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("text.txt");
    std::fs::write(&path, text)?;
    let ours = median(|| {
        let trainer = Trainer::new(TrainOptions {
            vocab_size: VOCAB_SIZE,
            special_tokens: vec![END_OF_TEXT.to_owned()],
            ..TrainOptions::default()
        })?;
        let mut inputs = Inputs::open(std::slice::from_ref(&path), InputOptions::default())?;
        stream::count(&mut inputs, &trainer, &mut |_| {
            std::ops::ControlFlow::Continue(())
        })?;
        black_box(trainer.finish()?);
        Ok(())
    })?;
    report("gpu-tlm", text.len(), ours, None);
    let hugging_face = once(|| {
        let mut trainer = BpeTrainer::builder()
            .vocab_size(VOCAB_SIZE)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = TokenizerBuilder::<
            BPE,
            tokenizers::NormalizerWrapper,
            _,
            tokenizers::PostProcessorWrapper,
            tokenizers::DecoderWrapper,
        >::new()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .build()
        .map_err(|e| anyhow!(e))?;
        let files = vec![path.to_string_lossy().into_owned()];
        tokenizer
            .train_from_files(&mut trainer, files)
            .map_err(|e| anyhow!(e))?;
        Ok(())
    })?;
    report("tokenizers", text.len(), hugging_face, Some(ours));
    Ok(())
}

fn encoding(text: &str) -> Result<()> {
    let gpt2 = Gpt2::load()?;
    let documents = texts::documents(text);
    println!(
        "encoding with GPT-2's vocabulary, one thread, {} documents:",
        documents.len()
    );
    let mut n_ids = [0; 3];
    let ours = median(|| {
        let mut encoder = gpt2.ours.encoder();
        let mut ids = Vec::new();
        n_ids[0] = 0;
        for document in &documents {
            ids.clear();
            encoder.encode(document, &mut ids);
            n_ids[0] += black_box(&ids).len();
        }
        Ok(())
    })?;
    report("gpu-tlm", text.len(), ours, None);
    let tiktoken = once(|| {
        for document in &documents {
            n_ids[1] += black_box(gpt2.tiktoken.encode_with_special_tokens(document)).len();
        }
        Ok(())
    })?;
    report("tiktoken-rs", text.len(), tiktoken, Some(ours));
    let hugging_face = once(|| {
        for &document in &documents {
            let encoding = gpt2.hugging_face.encode_fast(document, false);
            n_ids[2] += encoding.map_err(|e| anyhow!(e))?.get_ids().len();
        }
        Ok(())
    })?;
    report("tokenizers", text.len(), hugging_face, Some(ours));
    println!("  ids: {n_ids:?}");
    Ok(())
}

/// A line of one character, of two lengths: four times the length should take four times as long.
fn one_line() -> Result<()> {
    let gpt2 = Gpt2::load()?;
    println!("one line of one character, gpu-tlm alone:");
    for (name, character) in [("letter", "a"), ("space", " "), ("emoji", "👍")] {
        for len in [25_000_000, 100_000_000] {
            let text = character.repeat(len / character.len());
            let encoded = once(|| {
                black_box(gpt2.ours.encode(&text));
                Ok(())
            })?;
            let trained = once(|| {
                let options = TrainOptions {
                    vocab_size: 300,
                    ..TrainOptions::default()
                };
                black_box(gpu_tlm::data::tokenizer::train::train(&[&text], &options)?);
                Ok(())
            })?;
            println!(
                "  {name:8} {:4} MB: encoding {encoded:7.3} s, training {trained:7.3} s",
                len / 1_000_000
            );
        }
    }
    Ok(())
}

fn report(name: &str, n_bytes: usize, elapsed_s: f64, ours: Option<f64>) {
    let mb_per_s = n_bytes as f64 / elapsed_s / 1e6;
    let ratio = ours.map_or(String::new(), |ours| {
        format!(", gpu-tlm is {:.1} times as fast", elapsed_s / ours)
    });
    println!("  {name:12} {elapsed_s:8.3} s, {mb_per_s:7.1} MB/s{ratio}");
}

fn once(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = (0..N_TIMINGS)
        .map(|_| once(&mut work))
        .collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[N_TIMINGS / 2])
}
