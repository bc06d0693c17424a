//! Parameters that stay as they are, held in less memory than f32: the same training as with f32 of the same
//! values.

use gpu_tlm::check::step::{in_parts, random_batch, tiny_model, train_config};
use gpu_tlm::config::{LoraConfig, ModelConfig, Precision, TrainConfig};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::weights::{HostTensor, Role, StorageType};

const CLASSES: [AdapterClass; 2] = [AdapterClass::Gpu, AdapterClass::Software];

fn device(class: AdapterClass) -> Device {
    let options = DeviceOptions {
        limits: LimitSet::PortableFloor,
        class: Some(class),
        ..DeviceOptions::default()
    };
    Device::open(&options).unwrap()
}

/// Adapters beside queries, values and what the feed-forward layer ends with.
fn lora() -> TrainConfig {
    TrainConfig {
        lora: Some(LoraConfig {
            rank: 3,
            alpha: 4.5,
            targets: ["q_proj", "v_proj", "w2"].map(str::to_owned).to_vec(),
        }),
        ..train_config(4, 2)
    }
}

fn freezing(names: &[&str]) -> TrainConfig {
    TrainConfig {
        freeze: names.iter().map(|&name| name.to_owned()).collect(),
        ..train_config(4, 2)
    }
}

fn holding(storage: StorageType, train: &TrainConfig) -> TrainConfig {
    TrainConfig {
        frozen_type: storage,
        ..train.clone()
    }
}

/// An engine whose parameters are random, adapters too.
fn engine(device: Device, model: &ModelConfig, train: &TrainConfig) -> Engine {
    let engine = Engine::new(device, model, train).unwrap();
    engine.initialise(3);
    let adapters = engine.table().iter().enumerate();
    for (index, p) in adapters.filter(|(_, p)| p.is_of_adapter()) {
        let random = gpu_tlm::random::Philox::new(index as u64, gpu_tlm::random::Stream::Init);
        let values = (0..p.len()).map(|i| 0.3 * random.normal(i as u64) as f32);
        let tensor = HostTensor::from_f32(&values.collect::<Vec<f32>>());
        engine.write(Part::Parameters, index, &tensor);
    }
    engine
}

/// Loss, gradient norm, and the gradients of what is trained, of the second of two steps.
fn two_steps(engine: &mut Engine, model: &ModelConfig) -> (f32, f32, Vec<Vec<f32>>) {
    let batch = random_batch(model, 4);
    for t in 1..=2 {
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 1e-2, t).unwrap();
    }
    engine.take_metrics().unwrap().unwrap();
    let metrics = engine.take_metrics().unwrap().unwrap();
    let trained = engine.table().iter().enumerate();
    let trained = trained.filter(|(_, p)| p.role == Role::Trainable);
    let gradients = trained.map(|(index, _)| engine.read(Part::Gradients, index).unwrap().to_f32());
    (metrics.loss, metrics.grad_norm, gradients.collect())
}

/// Trains two steps with frozen matrices of `storage`, and with the values that these have as f32.
fn expect_the_same(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
    storage: StorageType,
) {
    let mut held = engine(device.clone(), model, &holding(storage, train));
    let mut plain = Engine::new(device.clone(), model, train).unwrap();
    let start = held.state().unwrap();
    plain.restore(&start);
    let [got, wanted] = [&mut held, &mut plain].map(|engine| two_steps(engine, model));
    assert!(wanted.1 > 0.0);
    assert_eq!((got.0, got.1), (wanted.0, wanted.1));
    assert!(got.2 == wanted.2, "gradients differ");
    let state = held.state().unwrap();
    for (index, p) in held.table().iter().enumerate() {
        let is_same = start.parameters[index] == state.parameters[index];
        assert_eq!(is_same, p.role == Role::Frozen, "{}", p.name);
        let is_held = p.role == Role::Frozen && !p.is_vector();
        assert_eq!(p.storage == storage, is_held, "{}", p.name);
    }
}

#[test]
fn frozen_halves_give_the_bits_of_f32() {
    for class in CLASSES {
        let device = device(class);
        for tie_embeddings in [false, true] {
            let model = tiny_model(16, tie_embeddings);
            expect_the_same(&device, &model, &lora(), StorageType::F16);
            let names = ["token_embeddings", "layers.0", "k_proj", "w3"];
            expect_the_same(&device, &model, &freezing(&names), StorageType::F16);
        }
    }
}
