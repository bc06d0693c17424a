//! A whole training step of a tiny model on the device, tensor by tensor, against the f64 model.

use std::collections::BTreeMap;

use crate::config::{Architecture, ModelConfig, Precision, Settings, TrainConfig};
use crate::data::dataset::Batch;
use crate::gpu::{Device, GpuError};
use crate::kernels::loss_scale::FIRST_SCALE;
use crate::random::{Philox, Stream};
use crate::reference::adamw::{self, AdamwStep};
use crate::reference::grad_norm;
use crate::reference::transformer::{self, TransformerShape};
use crate::train::engine::{Engine, Part, StepMetrics};

/// What reports call the check.
pub const NAME: &str = "train_step";

/// One tensor of the step, or the loss, or the gradient norm.
#[derive(Clone, Debug)]
pub struct TensorReport {
    /// `loss`, `grad_norm`, or `gradient of` or `update of` and the parameter's name.
    pub name: String,
    /// Relative L2 error.
    pub worst: f64,
    /// What it may be.
    pub tolerance: f64,
    /// What is wrong.
    pub failure: Option<String>,
}

/// Errors of a dozen f32 operations in a row; each alone stays under 1e-5.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// In mixed precision: an f32 result next to the middle between two halves may be rounded to the other one
/// than in f64, and what follows from it then meets the next middle ever more often, so that after some
/// layers an error is as large as that of the roundings themselves, of which each is up to 2^-11.
const MIXED_TOLERANCE: f64 = 2e-3;
/// Updated parameters in mixed precision: an update is at most a thousandth of them here, and off by as much
/// as its gradient.
const MIXED_UPDATE_TOLERANCE: f64 = 2e-5;
/// The loss comes of the forward pass alone, and is a mean.
const MIXED_LOSS_TOLERANCE: f64 = 5e-5;
/// A mean of logarithms: its terms' errors are of either sign.
const LOSS_TOLERANCE: f64 = 2e-6;
const LEARNING_RATE: f64 = 1e-3;
const SEED: u64 = 3;

/// Two layers, four heads of `head_dim` on two key and value heads, and no size that fills a tile.
pub fn tiny_model(head_dim: usize, tie_embeddings: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 37,
        context_length: 11,
        d_model: 4 * head_dim,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        d_ff: 27,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings,
        precision: Precision::F32,
        architecture: Architecture::default(),
    }
}

/// `device` with a binding limit so low that the vocabulary of the model beside it takes two
/// parts; its embedding is tied, so both of its uses add to one gradient.
pub fn in_parts(device: &Device) -> (Device, ModelConfig) {
    let model = ModelConfig {
        vocab_size: 200,
        ..tiny_model(16, true)
    };
    (device.with_max_binding_words(128 * model.d_model), model)
}

/// The default settings with these batches, and an eps of the gradients' size: with a tiny one the
/// first update is the learning rate times the gradient's sign, whatever is left of its value.
///
/// # Panics
/// If `micro_batch_size` does not divide `batch_size`: a bug of the caller.
pub fn train_config(batch_size: usize, micro_batch_size: usize) -> TrainConfig {
    let settings = Settings {
        batch_size,
        micro_batch_size: Some(micro_batch_size),
        eps: 1e-3,
        ..Settings::default()
    };
    settings.train().expect("the defaults are sound")
}

/// Random tokens and targets of `sequences` windows, always the same.
///
/// # Panics
/// If a token does not fit `u32`: a bug of the caller.
pub fn random_batch(model: &ModelConfig, sequences: usize) -> Batch {
    let random = Philox::new(9, Stream::Batches);
    let draw = |first: u64| {
        let ids = first..first + (sequences * model.context_length) as u64;
        ids.map(|i| u32::try_from(random.below(i, model.vocab_size as u64)).expect("a token"))
            .collect()
    };
    Batch {
        tokens: draw(0),
        targets: draw(1 << 32),
        ..Batch::default()
    }
}

/// Each parameter's values by its name.
type Tensors = BTreeMap<String, Vec<f32>>;

/// What one step leaves behind.
#[derive(PartialEq)]
struct Step {
    before: Tensors,
    metrics: StepMetrics,
    gradients: Tensors,
    after: Tensors,
}

/// Runs the first step twice, each time on fresh memory, wants equal bits, and compares loss,
/// gradient norm, gradients and updated parameters with the f64 model.
///
/// # Errors
/// When the device fails; a wrong result is a [`TensorReport`].
pub fn check(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
) -> Result<Vec<TensorReport>, GpuError> {
    check_batch(device, model, train, &random_batch(model, train.batch_size))
}

/// [`check`] of a given batch.
///
/// # Errors
/// As there.
pub fn check_batch(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
    batch: &Batch,
) -> Result<Vec<TensorReport>, GpuError> {
    let step = run_step(device, model, train, batch)?;
    let again = run_step(device, model, train, batch)?;
    let mut reports = compare(&step, model, train, batch);
    let differing = |report: &TensorReport| match report.name.split_once(" of ") {
        Some(("gradient", name)) => step.gradients[name] != again.gradients[name],
        Some((_, name)) => step.after[name] != again.after[name],
        None => step.metrics != again.metrics,
    };
    for report in &mut reports {
        if report.failure.is_none() && differing(report) {
            report.failure = Some(format!("{}: two runs gave different bits", report.name));
        }
    }
    Ok(reports)
}

fn run_step(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
    batch: &Batch,
) -> Result<Step, GpuError> {
    let mut engine = Engine::new(device.clone(), model, train)?;
    engine.initialise(SEED);
    let before = read(&engine, Part::Parameters)?;
    engine.submit_step(&engine.packer().pack(batch), LEARNING_RATE, 1)?;
    let metrics = engine.take_metrics()?.expect("a step was submitted");
    Ok(Step {
        before,
        metrics,
        gradients: read(&engine, Part::Gradients)?,
        after: read(&engine, Part::Parameters)?,
    })
}

fn read(engine: &Engine, part: Part) -> Result<Tensors, GpuError> {
    let names = engine.table().iter().enumerate();
    names
        .map(|(index, p)| Ok((p.name.clone(), engine.read(part, index)?.to_f32())))
        .collect()
}

fn compare(
    step: &Step,
    model: &ModelConfig,
    train: &TrainConfig,
    batch: &Batch,
) -> Vec<TensorReport> {
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let parameters = step.before.iter().map(|(n, v)| (n.clone(), wide(v)));
    let mut parameters: BTreeMap<String, Vec<f64>> = parameters.collect();
    let shape = transformer_shape(model, train.batch_size);
    let (tokens, targets) = (&batch.tokens, &batch.targets);
    let (loss, gradients) = transformer::loss_and_gradients(&parameters, tokens, targets, &shape);
    let all: Vec<f64> = gradients.values().flatten().copied().collect();
    let norm = grad_norm::norm(&all);
    let metrics = step.metrics;
    let (loss_tolerance, tolerance, update_tolerance) = match model.precision {
        Precision::F32 => (LOSS_TOLERANCE, GRADIENT_TOLERANCE, GRADIENT_TOLERANCE),
        Precision::Mixed => (
            MIXED_LOSS_TOLERANCE,
            MIXED_TOLERANCE,
            MIXED_UPDATE_TOLERANCE,
        ),
    };
    let mut reports = vec![
        report("loss".to_owned(), &[metrics.loss], &[loss], loss_tolerance),
        report(
            "grad_norm".to_owned(),
            &[metrics.grad_norm],
            &[norm],
            tolerance,
        ),
    ];
    for (name, want) in &gradients {
        let scale = shape.loss_scale.map_or(1.0, |_| FIRST_SCALE);
        let unscaled: Vec<f32> = step.gradients[name].iter().map(|g| g / scale).collect();
        let got = &unscaled;
        let name = format!("gradient of {name}");
        reports.push(report(name, got, want, tolerance));
    }
    let clip = grad_norm::clip_factor(norm, train.grad_clip);
    for (name, parameter) in &mut parameters {
        let clipped: Vec<f64> = gradients[name].iter().map(|g| g * clip).collect();
        update(parameter, &clipped, train);
        let name_of_report = format!("update of {name}");
        reports.push(report(
            name_of_report,
            &step.after[name],
            parameter,
            update_tolerance,
        ));
    }
    reports
}

fn update(parameter: &mut [f64], clipped: &[f64], train: &TrainConfig) {
    let mut moments = [(); 2].map(|()| vec![0.0; clipped.len()]);
    let [moment1, moment2] = &mut moments;
    let step = AdamwStep {
        learning_rate: LEARNING_RATE,
        beta1: train.beta1,
        beta2: train.beta2,
        eps: train.eps,
        weight_decay: train.weight_decay,
        step: 1,
    };
    adamw::update(parameter, clipped, moment1, moment2, &step);
}

fn transformer_shape(model: &ModelConfig, batch: usize) -> TransformerShape {
    TransformerShape {
        vocab_size: model.vocab_size,
        d_model: model.d_model,
        num_layers: model.num_layers,
        num_heads: model.num_heads,
        num_kv_heads: model.num_kv_heads,
        d_ff: model.d_ff,
        rope_theta: model.rope_theta,
        norm_eps: model.norm_eps,
        tie_embeddings: model.tie_embeddings,
        batch,
        time: model.context_length,
        loss_scale: (model.precision == Precision::Mixed).then_some(f64::from(FIRST_SCALE)),
    }
}

/// Compares in relative L2; a NaN fails.
fn report(name: String, got: &[f32], want: &[f64], tolerance: f64) -> TensorReport {
    assert_eq!(got.len(), want.len(), "{name} has another shape");
    let squares = got
        .iter()
        .zip(want)
        .map(|(g, w)| (f64::from(*g) - w).powi(2));
    let scale: f64 = want.iter().map(|w| w * w).sum();
    let worst = (squares.sum::<f64>() / scale).sqrt();
    let within = worst <= tolerance;
    let failure = (!within).then(|| {
        let far = |i: &usize| (f64::from(got[*i]) - want[*i]).abs();
        let at = (0..want.len())
            .max_by(|a, b| far(a).total_cmp(&far(b)))
            .unwrap_or(0);
        format!(
            "{name} is off by {worst:e} (tolerance {tolerance:e}), most at element {at}: {:e} where \
             the reference has {:e}",
            got[at], want[at]
        )
    });
    TensorReport {
        name,
        worst,
        tolerance,
        failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_or_missing_number_fails() {
        let want = [1.0, 2.0, -3.0];
        let of = |got: &[f32]| report("loss".to_owned(), got, &want, 1e-5).failure;
        assert_eq!(of(&[1.0, 2.0, -3.0]), None);
        assert_eq!(of(&[1.0, 2.00001, -3.0]), None);
        let message = of(&[1.0, 2.1, -3.0]).unwrap();
        assert!(message.contains("element 1: 2.1"), "{message}");
        assert!(of(&[1.0, f32::NAN, -3.0]).unwrap().contains("element 1"));
    }
}
