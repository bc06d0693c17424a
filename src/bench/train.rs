//! Whole training steps of standard models, beside the matrix product of the same run.

use std::time::Instant;

use super::{BenchError, matmul_rows};
use crate::check::step::{random_batch, train_config};
use crate::config::{Activation, Architecture, ModelConfig, Precision, TrainConfig};
use crate::gpu::{AdapterClass, Choices, Device, DispatchTime, Elements, GpuError, Kernel, Plan};
use crate::kernels::family::choose;
use crate::kernels::matmul::{self, Epilogue, Form};
use crate::train::engine::Engine;

/// A model whose speed is compared between programs and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A million parameters: d_model 128, 4 layers, 4 heads, d_ff 344, vocabulary 1,024, context
    /// 128, batch 8.
    Small,
    /// 23 million parameters, CS336's TinyStories model: d_model 512, 4 layers, 16 heads,
    /// d_ff 1,344, vocabulary 10,000, context 256, batch 8.
    Medium,
    /// 162 million parameters, of GPT-2's sizes: d_model 768, 12 layers, 12 heads, d_ff 2,048,
    /// vocabulary 50,257, context 1,024, batch 8.
    Large,
}

impl Model {
    /// `S`, `M` or `G`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "S",
            Self::Medium => "M",
            Self::Large => "G",
        }
    }

    /// Its shape.
    pub fn config(self) -> ModelConfig {
        let (d_model, d_ff) = match self {
            Self::Small => (128, 344),
            Self::Medium => (512, 1344),
            Self::Large => (768, 2048),
        };
        let (num_layers, num_heads) = match self {
            Self::Small => (4, 4),
            Self::Medium => (4, 16),
            Self::Large => (12, 12),
        };
        let (vocab_size, context_length) = match self {
            Self::Small => (1024, 128),
            Self::Medium => (10_000, 256),
            Self::Large => (50_257, 1024),
        };
        ModelConfig {
            vocab_size,
            context_length,
            d_model,
            num_layers,
            num_heads,
            num_kv_heads: num_heads,
            d_ff,
            rope_theta: 10_000.0,
            norm_eps: 1e-5,
            tie_embeddings: false,
            precision: Precision::F32,
            architecture: Architecture::default(),
        }
    }
}

/// Sequences of a batch of these models.
pub const BATCH_SIZE: usize = 8;

/// What the steps took.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TrainReport {
    /// Tokens trained on in a second, at the median step.
    pub tokens_per_s: f64,
    /// Median time of a step, in milliseconds.
    pub ms_per_step: f64,
    /// Distance between the second fastest and the second slowest step, as a share of the median.
    pub spread: f64,
    /// Steps that were timed.
    pub steps: usize,
    /// Billions of floating-point operations a second, by [`step_flops`].
    pub gflops: f64,
    /// The kernel of that product, which plans for this adapter use.
    pub matmul: String,
    /// The same of a matrix product of 1024x1024x1024 before and after the steps.
    pub matmul_gflops: f64,
    /// Time in which the host packed, recorded and submitted a step, as a share of the step; without
    /// the submission on software adapters, whose drivers may run the step in it.
    pub host_share: f64,
    /// Bytes that the device's allocator has given out; `None` where it does not say.
    pub peak_device_bytes: Option<u64>,
    /// Bytes that the plan of the step has foreseen.
    pub planned_device_bytes: u64,
    /// Seconds from an open device to the metrics of the first step.
    pub first_step_s: f64,
    /// Device time of each dispatch of one more step.
    #[serde(skip)]
    pub dispatches: Vec<DispatchTime>,
}

/// Floating-point operations of a step: six for each weight of a matrix product and token, and
/// those of causal attention, `12 * layers * width of the queries * context * tokens / 2`.
pub fn step_flops(model: &ModelConfig, tokens: usize) -> f64 {
    let query_width = model.num_heads * model.head_dim();
    let kv_width = model.num_kv_heads * model.head_dim();
    let attention = 2 * model.d_model * (query_width + kv_width);
    let matrices = match model.architecture.activation {
        Activation::Swiglu => 3,
        Activation::Gelu => 2,
    };
    let block = attention + matrices * model.d_model * model.d_ff;
    let weights = model.num_layers * block + model.vocab_size * model.d_model;
    let scores = 6 * model.num_layers * query_width * model.context_length;
    (6 * weights + scores) as f64 * tokens as f64
}

/// Steps that are timed at least and at most, and the time after which no further one begins.
pub(super) const STEPS: std::ops::RangeInclusive<usize> = 5..=50;
pub(super) const ENOUGH_S: f64 = 10.0;

/// Trains a model on random tokens for some seconds.
///
/// # Errors
/// When the model does not fit the device, or the device fails.
pub fn run(
    device: &Device,
    model: &ModelConfig,
    batch_size: usize,
) -> Result<TrainReport, BenchError> {
    let operands = match model.precision {
        Precision::F32 => Elements::Words,
        Precision::Mixed => Elements::Halves,
    };
    let before = matmul_gflops(device, operands)?;
    let started = Instant::now();
    let train: TrainConfig = train_config(batch_size, batch_size);
    let mut engine = Engine::new(device.clone(), model, &train)?;
    engine.initialise(1);
    let batch = random_batch(model, batch_size);
    let packer = engine.packer();
    let mut t = 1;
    engine.submit_step(&packer.pack(&batch), RATE, t)?;
    take(&mut engine)?;
    let first_step_s = started.elapsed().as_secs_f64();
    let (mut steps, mut host_s) = (Vec::new(), 0.0);
    let began = Instant::now();
    let mut last = began;
    engine.submit_step(&packer.pack(&batch), RATE, 2)?;
    while steps.len() < *STEPS.start()
        || (steps.len() < *STEPS.end() && began.elapsed().as_secs_f64() < ENOUGH_S)
    {
        t = 3 + steps.len() as u64;
        let (host, submitting_s) = (Instant::now(), device.submitting_s());
        engine.submit_step(&packer.pack(&batch), RATE, t)?;
        host_s += host.elapsed().as_secs_f64();
        if device.class() == AdapterClass::Software {
            host_s -= device.submitting_s() - submitting_s;
        }
        // As in training, the metrics that are waited for are those of the step before.
        take(&mut engine)?;
        steps.push(last.elapsed().as_secs_f64() * 1e3);
        last = Instant::now();
    }
    take(&mut engine)?;
    let wall_ms: f64 = steps.iter().sum();
    let dispatches = engine.profile_step(&packer.pack(&batch), RATE, t + 1)?;
    take(&mut engine)?;
    let planned_device_bytes = engine.planned_bytes();
    let peak_device_bytes = device.allocated_bytes();
    drop(engine);
    let after = matmul_gflops(device, operands)?;
    steps.sort_by(f64::total_cmp);
    let ms_per_step = steps[steps.len() / 2];
    let tokens = batch_size * model.context_length;
    Ok(TrainReport {
        tokens_per_s: tokens as f64 / ms_per_step * 1e3,
        ms_per_step,
        spread: (steps[steps.len() - 2] - steps[1]) / ms_per_step,
        steps: steps.len(),
        gflops: step_flops(model, tokens) / ms_per_step / 1e6,
        matmul: product_kernel(device, operands).label(),
        matmul_gflops: f64::midpoint(before, after),
        host_share: host_s * 1e3 / wall_ms,
        peak_device_bytes,
        planned_device_bytes,
        first_step_s,
        dispatches,
    })
}

/// Small, so that the loss of random tokens stays a number.
const RATE: f64 = 1e-4;

fn take(engine: &mut Engine) -> Result<(), GpuError> {
    engine.take_metrics().map(|_| ())
}

fn product_kernel(device: &Device, operands: Elements) -> &'static Kernel {
    let product = matmul::Use {
        form: Form::Nt,
        sizes: [1024; 3],
        operands,
        in_quads: true,
        epilogue: Epilogue::Store,
    };
    let target = device.with_choices(Choices::default()).target();
    choose(&mut Plan::new(target), &product).variant.kernel()
}

/// Speed of the product that the device's plans use, operands that have to be staged included.
fn matmul_gflops(device: &Device, operands: Elements) -> Result<f64, BenchError> {
    let kernel = product_kernel(device, operands);
    let rows = matmul_rows(1024, 1024, 1024);
    let row = rows.iter().find(|row| std::ptr::eq(row.kernel, kernel));
    match row.expect("each variant has a row").run(device)? {
        Ok(timing) => Ok(timing.gflops()),
        Err(_) => Err(BenchError::Wrong {
            failed: 1,
            total: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_a_step_follow_the_formula() {
        let model = Model::Medium.config();
        let weights = 4.0 * (4.0 * 512.0 * 512.0 + 3.0 * 512.0 * 1344.0) + 10_000.0 * 512.0;
        let tokens = 8.0 * 256.0;
        let scores = 12.0 * 4.0 * 512.0 * 256.0 * tokens * 0.5;
        assert_eq!(step_flops(&model, 8 * 256), 6.0 * weights * tokens + scores);
    }
}
