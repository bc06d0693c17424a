//! A step on the device against the f64 model, and against itself in other shapes.

use std::collections::BTreeMap;

use gpu_tlm::config::{ModelConfig, Settings, TrainConfig};
use gpu_tlm::data::dataset::Batch;
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::random::{Philox, Stream};
use gpu_tlm::reference::transformer::{self, TransformerShape};
use gpu_tlm::train::engine::{Engine, Part};

fn model(head_dim: usize, tie_embeddings: bool) -> ModelConfig {
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
    }
}

fn train(batch_size: usize, micro_batch_size: usize) -> TrainConfig {
    let settings = Settings {
        batch_size,
        micro_batch_size: Some(micro_batch_size),
        ..Settings::default()
    };
    settings.train().unwrap()
}

fn engine(model: &ModelConfig, train: &TrainConfig) -> Engine {
    engine_on(&DeviceOptions::default(), model, train)
}

fn engine_on(options: &DeviceOptions, model: &ModelConfig, train: &TrainConfig) -> Engine {
    let engine = Engine::new(Device::open(options).unwrap(), model, train).unwrap();
    engine.initialise(3);
    engine
}

fn batch(model: &ModelConfig, sequences: usize) -> Batch {
    let random = Philox::new(9, Stream::Batches);
    let draw = |first: u64| {
        let ids = first..first + (sequences * model.context_length) as u64;
        ids.map(|i| u32::try_from(random.below(i, model.vocab_size as u64)).unwrap())
            .collect()
    };
    Batch {
        tokens: draw(0),
        targets: draw(1 << 32),
    }
}

fn gradients(engine: &Engine) -> BTreeMap<String, Vec<f32>> {
    let read = |(index, p): (usize, &gpu_tlm::model::parameters::Parameter)| {
        (p.name.clone(), engine.read(Part::Gradients, index).unwrap())
    };
    engine.table().iter().enumerate().map(read).collect()
}

/// Relative L2 error, tensor by tensor.
fn assert_close(
    got: &BTreeMap<String, Vec<f32>>,
    want: &BTreeMap<String, Vec<f64>>,
    tolerance: f64,
) {
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>()
    );
    for (name, want) in want {
        let error: f64 = got[name]
            .iter()
            .zip(want)
            .map(|(g, w)| (f64::from(*g) - w).powi(2))
            .sum();
        let scale: f64 = want.iter().map(|w| w * w).sum();
        let relative = (error / scale).sqrt();
        assert!(
            relative <= tolerance,
            "{name}: {relative:e} over {tolerance:e}"
        );
    }
}

#[test]
fn gradients_match_the_f64_model() {
    for (head_dim, tie_embeddings) in [(6, false), (16, true), (80, false)] {
        let (model, train) = (model(head_dim, tie_embeddings), train(3, 3));
        let mut engine = engine(&model, &train);
        let batch = batch(&model, 3);
        let parameters = engine
            .table()
            .iter()
            .enumerate()
            .map(|(index, p)| {
                let values = engine.read(Part::Parameters, index).unwrap();
                (p.name.clone(), values.into_iter().map(f64::from).collect())
            })
            .collect();
        let shape = TransformerShape {
            vocab_size: model.vocab_size,
            d_model: model.d_model,
            num_layers: model.num_layers,
            num_heads: model.num_heads,
            num_kv_heads: model.num_kv_heads,
            d_ff: model.d_ff,
            rope_theta: model.rope_theta,
            norm_eps: model.norm_eps,
            tie_embeddings,
            batch: 3,
            time: model.context_length,
        };
        let (loss, want) =
            transformer::loss_and_gradients(&parameters, &batch.tokens, &batch.targets, &shape);
        engine.submit_step(&batch, 0.0, 1).unwrap();
        let metrics = engine.take_metrics().unwrap().unwrap();
        assert!(
            (f64::from(metrics.loss) / loss - 1.0).abs() <= 2e-6,
            "{} for {loss}",
            metrics.loss
        );
        // Errors of a dozen f32 operations in a row; each alone stays under 1e-5.
        assert_close(&gradients(&engine), &want, 1e-5);
    }
}

#[test]
fn micro_batches_add_up_to_the_gradients_of_the_whole_batch() {
    let model = model(16, true);
    let batch = batch(&model, 8);
    let [whole, parts] = [8, 2].map(|micro| {
        let mut engine = engine(&model, &train(8, micro));
        // Twice, so that a sum that is never started afresh shows.
        for t in 1..=2 {
            engine.submit_step(&batch, 0.0, t).unwrap();
        }
        engine.take_metrics().unwrap().unwrap();
        (engine.take_metrics().unwrap().unwrap(), gradients(&engine))
    });
    let as_f64 = |map: BTreeMap<String, Vec<f32>>| -> BTreeMap<String, Vec<f64>> {
        map.into_iter()
            .map(|(k, v)| (k, v.into_iter().map(f64::from).collect()))
            .collect()
    };
    assert!((whole.0.loss / parts.0.loss - 1.0).abs() <= 1e-6);
    assert_close(&parts.1, &as_f64(whole.1), 1e-6);
}

#[test]
fn initial_weights_depend_on_the_seed_alone() {
    let (model, train) = (model(16, false), train(2, 2));
    let values = |seed: u64| {
        let engine = engine(&model, &train);
        engine.initialise(seed);
        engine.read(Part::Parameters, 2).unwrap()
    };
    assert_eq!(values(5), values(5));
    assert_ne!(values(5), values(6));
    // q_proj is [64, 64]: standard deviation sqrt(2 / 128), cut at three of them.
    let std = (2.0f64 / 128.0).sqrt();
    let sample = values(5);
    let found =
        (sample.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / sample.len() as f64).sqrt();
    assert!(
        sample
            .iter()
            .all(|v| f64::from(v.abs()) <= 3.0 * std * (1.0 + 1e-6))
    );
    // Cutting at three takes 1.3 % off; the estimate from 4,096 values wanders by 1.1 %.
    assert!(
        (found / std / 0.9866 - 1.0).abs() <= 0.045,
        "{found} for {std}"
    );
}

/// Bounds checks redirect an access that is out of bounds, and a submission's end orders what a
/// dispatch reads after what another wrote; neither may matter.
#[test]
fn guards_and_short_submissions_change_no_bit() {
    let (model, train) = (model(16, false), train(4, 2));
    let batch = batch(&model, 4);
    let state = |options: &DeviceOptions| {
        let mut engine = engine_on(options, &model, &train);
        for t in 1..=3 {
            engine.submit_step(&batch, 1e-2, t).unwrap();
        }
        let tensors = 0..engine.table().iter().count();
        let read = |index| engine.read(Part::Parameters, index).unwrap();
        tensors
            .flat_map(read)
            .map(f32::to_bits)
            .collect::<Vec<u32>>()
    };
    let plain = state(&DeviceOptions::default());
    let checked = DeviceOptions {
        checked: true,
        ..DeviceOptions::default()
    };
    assert!(state(&checked) == plain, "guards change the result");
    let short = DeviceOptions {
        work_per_submission: Some(1),
        ..DeviceOptions::default()
    };
    assert!(
        state(&short) == plain,
        "one dispatch a submission changes the result"
    );
}
