//! Generation by a standard model: the pass over a prompt, tokens over a cache, and tokens whose window is
//! computed anew, in turn in one run.

use std::time::Instant;

use super::report::ceilings_of;
use crate::Error;
use crate::config::{ModelConfig, Precision};
use crate::decode::{Generator, InferenceModel, Overflow, Request};
use crate::gpu::{Device, DispatchTime};

/// Figures of one batch.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GenerationReport {
    /// Sequences.
    pub batch_size: usize,
    /// Tokens that each new one sees.
    pub context: usize,
    /// Median time of a pass over a prompt of that many tokens, in milliseconds.
    pub prompt_ms: f64,
    /// Tokens of a prompt in a second.
    pub prompt_tokens_per_s: f64,
    /// Median time of a new token of all sequences over the cache, in milliseconds.
    pub ms_per_step: f64,
    /// New tokens in a second.
    pub tokens_per_s: f64,
    /// Distance between the second fastest and the second slowest step, as a share of the median.
    pub spread: f64,
    /// New tokens in a second where each has its window computed anew.
    pub uncached_tokens_per_s: f64,
    /// How many times as fast the cache is.
    pub speedup: f64,
    /// Bytes of weights, keys and values that a step has to read, over its time and the ceiling of copies.
    pub share_of_copy: f64,
    /// Device time of each dispatch of one more step.
    #[serde(skip)]
    pub dispatches: Vec<DispatchTime>,
}

/// What a run found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GenerationReports {
    /// Bytes read and written in a second by a copy, in billions, in the same run.
    pub copy_gb_per_s: f64,
    /// One a batch size.
    pub batches: Vec<GenerationReport>,
}

/// Steps that are timed, and passes over a whole window.
const STEPS: usize = 41;
const PASSES: usize = 9;

/// Bytes of weights that products read, and of keys and values that `rows` full windows have.
fn bytes_read(config: &ModelConfig, rows: usize) -> f64 {
    let element = match config.precision {
        Precision::F32 => 4,
        Precision::Mixed => 2,
    };
    let kv_cols = 2 * config.num_kv_heads * config.head_dim();
    let block = config.d_model * (2 * config.d_model + kv_cols + 3 * config.d_ff);
    let weights = config.num_layers * block + config.vocab_size * config.d_model;
    let cached = config.num_layers * config.context_length * kv_cols;
    (element * (weights + rows * cached)) as f64
}

/// Generates by a model of initial weights in batches of each size, all windows being full.
///
/// # Errors
/// When the model does not fit the device, or the device fails.
pub fn run(
    device: &Device,
    config: &ModelConfig,
    batch_sizes: &[usize],
) -> Result<GenerationReports, Error> {
    let copy_gb_per_s = ceilings_of(device)?.copy_gb_per_s;
    let mut batches = Vec::with_capacity(batch_sizes.len());
    for &batch_size in batch_sizes {
        let model = InferenceModel::initial(config, 1, device.target().max_binding_words);
        let mut generator = Generator::new(device.clone(), model, batch_size)?;
        batches.push(measure(&mut generator, batch_size, copy_gb_per_s)?);
    }
    Ok(GenerationReports {
        copy_gb_per_s,
        batches,
    })
}

fn measure(
    generator: &mut Generator,
    batch_size: usize,
    copy_gb_per_s: f64,
) -> Result<GenerationReport, Error> {
    let config = generator.config().clone();
    let context = config.context_length;
    let batch_size = batch_size.min(generator.slots());
    let request = |overflow| Request {
        prompt: vec![0; context],
        max_new_tokens: usize::MAX,
        seed: 1,
        overflow,
        ..Request::default()
    };
    // One sequence: each new token is a pass over a whole window, that of its prompt too.
    let alone = generator.add(request(Overflow::Exact))?;
    generator.step()?;
    let passes = timed(PASSES, || generator.step().map(|_| ()))?;
    generator.cancel(alone);
    for _ in 0..batch_size {
        generator.add(request(Overflow::Rolling))?;
    }
    // The prompts, and what is compiled for the first token after them.
    generator.step()?;
    generator.step()?;
    let steps = timed(STEPS, || generator.step().map(|_| ()))?;
    let (prompt_ms, ms_per_step) = (passes[PASSES / 2], steps[STEPS / 2]);
    let tokens_per_s = batch_size as f64 * 1e3 / ms_per_step;
    let uncached_tokens_per_s = 1e3 / prompt_ms;
    let gb_per_s = bytes_read(&config, batch_size) / ms_per_step / 1e6;
    Ok(GenerationReport {
        batch_size,
        context,
        prompt_ms,
        prompt_tokens_per_s: context as f64 * 1e3 / prompt_ms,
        ms_per_step,
        tokens_per_s,
        spread: (steps[STEPS - 2] - steps[1]) / ms_per_step,
        uncached_tokens_per_s,
        speedup: tokens_per_s / uncached_tokens_per_s,
        share_of_copy: gb_per_s / copy_gb_per_s,
        dispatches: generator.profile_step()?,
    })
}

/// Milliseconds of each of `count` runs, in order of size.
fn timed(count: usize, mut run: impl FnMut() -> Result<(), Error>) -> Result<Vec<f64>, Error> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        run()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
