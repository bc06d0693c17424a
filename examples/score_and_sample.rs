//! Scores a checkpoint on a token file and lets it go on from a prompt.
//!
//! `cargo run --example score_and_sample [FOLDER]`: FOLDER is that of a run on the built-in stories, such
//! as `train_tiny` leaves in `runs/tiny`.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use std::path::PathBuf;

use gpu_tlm::Error;
use gpu_tlm::data::dataset::Dataset;
use gpu_tlm::data::tokenizer::Tokenizer;
use gpu_tlm::decode::{Generator, InferenceModel, Request, Scorer};
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::kernels::sample::Sampling;

fn main() -> Result<(), Error> {
    let folder = std::env::args()
        .nth(1)
        .map_or("runs/tiny".into(), PathBuf::from);
    let checkpoint = folder.join("checkpoints/latest.safetensors");
    let device = Device::open(&DeviceOptions::default())?;
    let open = || InferenceModel::open(&checkpoint, device.target().max_binding_words);

    let model = open()?;
    let config = &model.config;
    let path = folder.join("corpus/val.npy");
    let validation = Dataset::open(&path, config.vocab_size, config.context_length)?;
    let mut scorer = Scorer::new(device.clone(), &model, 4)?;
    let loss = scorer.mean_loss(&validation, validation.windows().min(16))?;
    println!("loss {loss:.3} nats, perplexity {:.1}", loss.exp());

    let tokenizer = Tokenizer::load(&folder.join("tokenizer"))?;
    let sampling = Sampling {
        temperature: 0.8,
        top_k: Some(50),
        ..Sampling::default()
    };
    let mut generator = Generator::new(device.clone(), open()?, 1)?;
    let mut prompt = Vec::new();
    for block in tokenizer.encode_blocks("Once") {
        prompt.extend(block);
    }
    let request = Request {
        prompt: prompt.clone(),
        max_new_tokens: 24,
        sampling,
        seed: 1,
        ..Request::default()
    };
    let (new, _) = generator.generate(request, |_| ())?;
    assert_eq!(new.len(), 24);
    let text = tokenizer.decode(&[prompt, new].concat())?;
    println!("{}", String::from_utf8_lossy(&text));
    Ok(())
}
