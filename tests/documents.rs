//! Documents that share a row without seeing each other, against the same documents in rows of their own.

use std::collections::BTreeMap;

use gpu_tlm::check::step::{random_batch, tiny_model, train_config};
use gpu_tlm::config::{Activation, ModelConfig, Norm, Positions, Precision, TrainConfig};
use gpu_tlm::data::dataset::Batch;
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet};
use gpu_tlm::kernels::cross_entropy::IGNORED;
use gpu_tlm::train::engine::{Engine, Part};

const TIME: usize = 80;
/// Lengths of the documents of two rows: at the edges of tiles, beside them, and of one token.
const DOCUMENTS: [&[usize]; 2] = [&[32, 31, 1, 16], &[5, 70, 5]];

fn device(class: Option<AdapterClass>) -> Device {
    let options = DeviceOptions {
        limits: LimitSet::PortableFloor,
        class,
        ..DeviceOptions::default()
    };
    Device::open(&options).unwrap()
}

fn llama() -> ModelConfig {
    ModelConfig {
        context_length: TIME,
        ..tiny_model(16, false)
    }
}

fn qwen() -> ModelConfig {
    let mut model = llama();
    model.architecture.qk_norm = true;
    model
}

fn gpt2() -> ModelConfig {
    let mut model = llama();
    model.num_kv_heads = model.num_heads;
    let architecture = &mut model.architecture;
    architecture.norm = Norm::Layer;
    architecture.activation = Activation::Gelu;
    architecture.positions = Positions::Learned;
    architecture.biases = true;
    model
}

/// Two rows of documents, and each of these in a row of its own, filled up by what counts for nothing.
fn batches(model: &ModelConfig) -> (Batch, Batch) {
    let mut together = random_batch(model, DOCUMENTS.len());
    let mut apart = Batch::default();
    let mut firsts = Vec::new();
    for (row, lens) in DOCUMENTS.iter().enumerate() {
        let mut first = 0;
        for &len in *lens {
            let own = row * TIME + first..row * TIME + first + len;
            firsts.resize(own.end, u32::try_from(first).unwrap());
            let end = apart.tokens.len() + TIME;
            apart
                .tokens
                .extend_from_slice(&together.tokens[own.clone()]);
            apart.targets.extend_from_slice(&together.targets[own]);
            apart.tokens.resize(end, 3);
            apart.targets.resize(end, IGNORED);
            first += len;
        }
        assert_eq!(first, TIME);
    }
    together.documents = Some(firsts);
    (together, apart)
}

struct Step {
    loss: f64,
    evaluated: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn step(
    model: &ModelConfig,
    train: &TrainConfig,
    class: Option<AdapterClass>,
    batch: &Batch,
) -> Step {
    let mut engine = Engine::new(device(class), model, train).unwrap();
    engine.initialise(3);
    let packed = engine.packer().pack(batch);
    engine.submit_step(&packed, 0.0, 1).unwrap();
    let loss = engine.take_metrics().unwrap().unwrap().loss;
    let passes = std::iter::once(Ok::<_, gpu_tlm::Error>(batch.clone()));
    let evaluated = match train.batch_size == train.micro_batch_size {
        true => engine.evaluate(passes).unwrap(),
        false => f64::from(loss),
    };
    let all = engine.table().iter().enumerate();
    let read = |(index, p): (usize, &gpu_tlm::weights::Parameter)| {
        (
            p.name.clone(),
            engine.read(Part::Gradients, index).unwrap().to_f32(),
        )
    };
    Step {
        loss: f64::from(loss),
        evaluated,
        gradients: all.map(read).collect(),
    }
}

fn expect_same(
    model: &ModelConfig,
    class: Option<AdapterClass>,
    checkpointing: bool,
    tolerance: f64,
) {
    let (together, apart) = batches(model);
    let of = |batch_size, micro_batch_size, document_mask| TrainConfig {
        document_mask,
        activation_checkpointing: checkpointing,
        ..train_config(batch_size, micro_batch_size)
    };
    let count = apart.tokens.len() / TIME;
    let alone = step(model, &of(count, count, false), class, &apart);
    for micro_batch_size in [2, 1] {
        let packed = step(model, &of(2, micro_batch_size, true), class, &together);
        let near = |what: &str, got: f64, want: f64| {
            assert!(
                (got / want - 1.0).abs() <= tolerance,
                "{what} {got}, not {want}"
            );
        };
        near("loss", packed.loss, alone.loss);
        near("evaluated", packed.evaluated, alone.evaluated);
        let all = alone.gradients.values().flatten();
        let total = all.map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        for (name, want) in &alone.gradients {
            let square =
                |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let pairs = packed.gradients[name].iter().zip(want);
            let error = square(&mut pairs.map(|(g, w)| f64::from(*g) - f64::from(*w)));
            // A bias of keys moves all scores of a query alike, and has no gradient but rounding's.
            let scale = square(&mut want.iter().map(|w| f64::from(*w))).max(1e-3 * total);
            assert!(
                error <= tolerance * scale,
                "{name}: {:e} over {tolerance:e}",
                error / scale
            );
        }
    }
    // Without the mask it is something else.
    let seen = step(model, &of(2, 2, false), class, &together);
    assert!(
        (seen.loss / alone.loss - 1.0).abs() > 100.0 * tolerance.min(1e-5),
        "{} and {}",
        seen.loss,
        alone.loss
    );
}

/// Rotary angles count from the row's beginning, and not the document's: they differ by a turn of all, whose
/// rounding, of angles to 80, is what is left.
const F32: f64 = 3e-5;
/// As in other tests of halves.
const MIXED: f64 = 2e-2;

#[test]
fn documents_of_a_row_are_what_they_are_alone() {
    for class in [Some(AdapterClass::Software), Some(AdapterClass::Gpu)] {
        for model in [llama(), qwen(), gpt2()] {
            expect_same(&model, class, false, F32);
        }
    }
}

#[test]
fn documents_are_kept_apart_with_activation_checkpointing_too() {
    expect_same(&gpt2(), None, true, F32);
}

#[test]
fn documents_are_kept_apart_in_mixed_precision_too() {
    let model = ModelConfig {
        precision: Precision::Mixed,
        ..llama()
    };
    expect_same(&model, None, false, MIXED);
}
