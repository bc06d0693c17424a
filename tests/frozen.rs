//! Parameters that stay as they are, held in less memory than f32: the same training as with f32 of the same
//! values.

use gpu_tlm::check::step::{in_parts, random_batch, tiny_model, train_config};
use gpu_tlm::config::{LoraConfig, ModelConfig, Precision, Settings, TrainConfig};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet, Target};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::train::step_plan::StepPlan;
use gpu_tlm::weights::{HostTensor, MOST_UNPACKED, Role, StorageType};

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
#[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
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

/// Trains two steps with frozen matrices of `storage`, and with the values that these have as f32; gives what came
/// of both.
fn both(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
    storage: StorageType,
) -> [(f32, f32, Vec<Vec<f32>>); 2] {
    let mut held = engine(device.clone(), model, &holding(storage, train));
    let mut plain = Engine::new(device.clone(), model, train).unwrap();
    let start = held.state().unwrap();
    plain.restore(&start);
    let of_both = [&mut held, &mut plain].map(|engine| two_steps(engine, model));
    let state = held.state().unwrap();
    for (index, p) in held.table().iter().enumerate() {
        let is_same = start.parameters[index] == state.parameters[index];
        assert_eq!(is_same, p.role == Role::Frozen, "{}", p.name);
        let is_held = p.role == Role::Frozen && !p.is_vector();
        assert_eq!(p.storage == storage, is_held, "{}", p.name);
    }
    of_both
}

fn expect_the_same(
    device: &Device,
    model: &ModelConfig,
    train: &TrainConfig,
    storage: StorageType,
) {
    let [got, wanted] = both(device, model, train, storage);
    assert!(wanted.1 > 0.0);
    assert_eq!((got.0, got.1), (wanted.0, wanted.1));
    assert!(got.2 == wanted.2, "gradients differ");
}

/// A model whose matrices consist of whole blocks.
fn model(tie_embeddings: bool, precision: Precision) -> ModelConfig {
    ModelConfig {
        d_ff: 32,
        precision,
        ..tiny_model(16, tie_embeddings)
    }
}

/// Whole layers, and of another one two of the weights that otherwise make one matrix with others.
const SOME: [&str; 4] = ["token_embeddings", "layers.0", "k_proj", "w3"];

#[test]
fn frozen_halves_give_the_bits_of_f32() {
    for device in CLASSES.map(device) {
        for tie_embeddings in [false, true] {
            // Rows of 27 halves have gaps behind them.
            let model = tiny_model(16, tie_embeddings);
            expect_the_same(&device, &model, &lora(), StorageType::F16);
            expect_the_same(&device, &model, &freezing(&SOME), StorageType::F16);
        }
    }
}

#[test]
fn frozen_blocks_of_bytes_give_the_bits_of_f32() {
    for device in CLASSES.map(device) {
        for tie_embeddings in [false, true] {
            let model = model(tie_embeddings, Precision::F32);
            expect_the_same(&device, &model, &lora(), StorageType::Q8_0);
            expect_the_same(&device, &model, &freezing(&SOME), StorageType::Q8_0);
        }
    }
}

/// The values of both are halves, or are rounded to them as those of f32 are.
#[test]
fn in_mixed_precision_frozen_matrices_give_the_bits_of_f32() {
    for device in CLASSES.map(device) {
        for storage in [StorageType::F16, StorageType::Q8_0] {
            for tie_embeddings in [false, true] {
                let model = model(tie_embeddings, Precision::Mixed);
                expect_the_same(&device, &model, &lora(), storage);
                expect_the_same(&device, &model, &freezing(&SOME), storage);
            }
        }
    }
}

/// An embedding in two parts, which is the head too.
#[test]
fn frozen_matrices_in_parts_are_those_of_f32() {
    for device in CLASSES.map(device) {
        for storage in [StorageType::F16, StorageType::Q8_0] {
            // Queries, keys and values of f32 lie in several buffers here and make products of their own, which
            // round apart; and so do halves in the middle between two.
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Mixed, 2e-3)] {
                let (device, model) = in_parts(&device);
                let model = ModelConfig {
                    d_ff: 32,
                    precision,
                    ..model
                };
                let [got, wanted] = both(&device, &model, &lora(), storage);
                assert_near(&[got.0], &[wanted.0], tolerance);
                for (got, wanted) in got.2.iter().zip(&wanted.2) {
                    assert_near(got, wanted, tolerance);
                }
                let held = Engine::new(device, &model, &holding(storage, &lora())).unwrap();
                assert_eq!(held.table().iter().next().unwrap().parts.len(), 2);
            }
        }
    }
}

/// By the relative L2 error.
fn assert_near(got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let square = |v: f32| f64::from(v).powi(2);
    let error: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    let scale: f64 = want.iter().map(|&w| square(w)).sum();
    let relative = (error / scale).sqrt();
    assert!(relative <= tolerance, "{relative:e} over {tolerance:e}");
}

/// What a device holds is read as f32 and written again without a change.
#[test]
fn an_engine_of_held_parameters_goes_on_with_the_same_bits() {
    let model = model(true, Precision::F32);
    for storage in [StorageType::F16, StorageType::Q8_0] {
        let train = holding(storage, &freezing(&SOME));
        let device = device(AdapterClass::Software);
        let mut whole = engine(device.clone(), &model, &train);
        two_steps(&mut whole, &model);
        let state = whole.state().unwrap();
        let mut again = Engine::from_state(device, &model, &train, &state).unwrap();
        assert!(again.state().unwrap() == state, "{storage:?}");
        assert!(two_steps(&mut again, &model) == two_steps(&mut whole, &model));
        let after = whole.state().unwrap();
        assert!(again.state().unwrap() == after && after != state);
        // It is not held as it was given.
        let given = again.table().initial_values(0, 3);
        assert!(state.parameters[0] != given);
    }
}

/// The shapes of SmolLM2, the smallest and the largest (Allal et al. 2025, table of hyperparameters).
fn smollm2(is_large: bool, precision: Precision) -> ModelConfig {
    let settings = Settings {
        vocab_size: Some(49_152),
        context_length: 512,
        d_model: if is_large { 2048 } else { 576 },
        num_layers: if is_large { 24 } else { 30 },
        num_heads: if is_large { 32 } else { 9 },
        num_kv_heads: Some(if is_large { 32 } else { 3 }),
        d_ff: Some(if is_large { 8192 } else { 1536 }),
        tie_embeddings: true,
        precision,
        ..Settings::default()
    };
    settings.model(None).unwrap()
}

/// Bytes of a step of one window of 512 tokens with adapters of rank 8: of parameters, of scratch tensors, and of
/// everything.
fn bytes(model: &ModelConfig, target: Target, storage: StorageType) -> [u64; 3] {
    let settings = Settings {
        batch_size: 1,
        activation_checkpointing: true,
        lora_rank: 8,
        frozen_type: storage,
        ..Settings::default()
    };
    let step = StepPlan::new(model, &settings.train().unwrap(), target);
    let parts = step.device_bytes();
    let of = |wanted: &str| {
        let own = parts.iter().filter(|(label, _)| label.starts_with(wanted));
        own.map(|(_, bytes)| bytes).sum()
    };
    [of("parameters"), of("scratch"), of("")]
}

#[test]
fn models_of_135_million_and_of_1700_million_parameters_fit_1_and_6_gibibytes() {
    for (is_large, most) in [(false, 1u64 << 30), (true, 6 << 30)] {
        for class in CLASSES {
            for precision in [Precision::F32, Precision::Mixed] {
                let model = smollm2(is_large, precision);
                let [f32, f16, q8_0] = [StorageType::F32, StorageType::F16, StorageType::Q8_0]
                    .map(|storage| bytes(&model, Target::portable(class), storage));
                let what = format!("{class:?} {precision:?}: {f32:?} {f16:?} {q8_0:?}");
                assert!(f16[2] < most && q8_0[2] < most, "{what}");
                // Two bytes and 1.0625 bytes an element instead of four; the least of it are gains and adapters.
                assert!(f16[0] * 100 < f32[0] * 51, "{what}");
                assert!(q8_0[0] * 1000 < f32[0] * 270, "{what}");
                // Beside what a step with f32 takes, one part of a matrix as words, and a quarter of that in gaps
                // that its neighbours in memory leave.
                let unpacked = 5 * MOST_UNPACKED as u64;
                for held in [f16, q8_0] {
                    assert!(held[1] <= f32[1] + unpacked, "{what}");
                }
                // Where weights take little, so do logits at once.
                if (is_large, class) == (false, AdapterClass::Gpu) {
                    assert!(q8_0[2] < 350 << 20, "{what}");
                }
                // And no halves of all matrices.
                if precision == Precision::Mixed {
                    assert!(f16[1] * 2 < f32[1] && q8_0[1] * 2 < f32[1], "{what}");
                }
            }
        }
    }
}
