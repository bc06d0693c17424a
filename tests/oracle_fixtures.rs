//! The GPU against PyTorch: fixtures that `tests/oracle/make_fixtures.py` wrote.
//!
//! They run on a device with exactly WebGPU's default limits and no optional feature, so that
//! they also show that the tiny models need nothing else; those that force a variant run on all
//! that the adapter has.

use std::path::{Path, PathBuf};

use gpu_tlm::checkpoint::{self, Metadata};
use gpu_tlm::config::{ModelConfig, Resolved, SettingFlags, TrainConfig};
use gpu_tlm::data::dataset::Batch;
use gpu_tlm::decode::{Generator, InferenceModel};
use gpu_tlm::gpu::{AdapterClass, Choices, Device, DeviceOptions, LimitSet};
use gpu_tlm::kernels::cross_entropy::IGNORED;
use gpu_tlm::kernels::{expect_forced, family_of, takes_halves, variants};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::train::schedule::learning_rate;
use gpu_tlm::train::step_plan::StepPlan;
use gpu_tlm::weights::HostTensor;
use safetensors::SafeTensors;
use serde_json::Value;

const CASES: [&str; 4] = ["multi_head", "grouped", "tied", "tied_grouped"];

/// PyTorch in f32 and in f64 differ by 2e-7 in the loss; ten times that leaves room for another
/// order of summation and for the device's exponential.
const LOSS_TOLERANCE: f64 = 3e-6;
/// The same for the gradient norm, which sums squares over all tensors.
const NORM_TOLERANCE: f64 = 5e-6;
/// Relative L2 error of a gradient tensor; PyTorch's own f32 error is up to 8e-7.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// Relative L2 error of a parameter after ten updates. The smallest slip in AdamW that was tried,
/// decay after instead of before the update, changes them by 1.5e-5.
const PARAMETER_TOLERANCE: f64 = 3e-6;
/// Relative L2 error of the logits; PyTorch's own f32 error is 4e-7.
const LOGITS_TOLERANCE: f64 = 4e-6;

struct Fixture {
    json: Value,
    bytes: Vec<u8>,
}

impl Fixture {
    fn load(case: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures");
        let json = std::fs::read_to_string(folder.join(format!("{case}.json"))).unwrap();
        let bytes = std::fs::read(folder.join(format!("{case}.safetensors"))).unwrap();
        Self {
            json: serde_json::from_str(&json).unwrap(),
            bytes,
        }
    }

    fn words(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        tensor
            .data()
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_bits).collect()
    }

    fn configs(&self, run: &str) -> (ModelConfig, TrainConfig) {
        let mut config = self.json["config"].clone();
        config["grad_clip"] = self.json["runs"][run]["grad_clip"].clone();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let settings = Resolved::load(Some(&path), &SettingFlags::default())
            .unwrap()
            .settings;
        (settings.model(None).unwrap(), settings.train().unwrap())
    }

    fn batch(&self, iteration: usize, model: &ModelConfig, train: &TrainConfig) -> Batch {
        let rows = train.batch_size * model.context_length;
        let part = |name: &str| self.words(name)[iteration * rows..(iteration + 1) * rows].to_vec();
        Batch {
            tokens: part("tokens"),
            targets: part("targets"),
            ..Batch::default()
        }
    }
}

fn floor_device(class: Option<AdapterClass>) -> Device {
    let limits = LimitSet::PortableFloor;
    Device::open(&DeviceOptions {
        limits,
        class,
        ..DeviceOptions::default()
    })
    .unwrap()
}

/// An engine with the fixture's initial weights.
fn engine(fixture: &Fixture, run: &str, device: Device) -> (Engine, ModelConfig, TrainConfig) {
    let (model, train) = fixture.configs(run);
    let engine = engine_of(fixture, &model, &train, device);
    (engine, model, train)
}

fn engine_of(
    fixture: &Fixture,
    model: &ModelConfig,
    train: &TrainConfig,
    device: Device,
) -> Engine {
    let engine = Engine::new(device, model, train).unwrap();
    for (index, parameter) in engine.table().iter().enumerate() {
        engine.write(
            Part::Parameters,
            index,
            &HostTensor::from_f32(&fixture.floats(&format!("init.{}", parameter.name))),
        );
    }
    engine
}

fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = squares(
        &mut got
            .iter()
            .zip(want)
            .map(|(g, w)| f64::from(*g) - f64::from(*w)),
    );
    (error / squares(&mut want.iter().map(|w| f64::from(*w)))).sqrt()
}

fn assert_within(what: &str, error: f64, tolerance: f64) {
    // Written so that NaN fails.
    assert!(
        error <= tolerance,
        "{what}: relative error {error:e}, over {tolerance:e}"
    );
}

fn assert_relative(what: &str, got: f32, want: f64, tolerance: f64) {
    assert_within(
        &format!("{what} ({got} for {want})"),
        (f64::from(got) / want - 1.0).abs(),
        tolerance,
    );
}

fn assert_tensors(fixture: &Fixture, engine: &Engine, part: Part, prefix: &str, tolerance: f64) {
    for (index, parameter) in engine.table().iter().enumerate() {
        let name = format!("{prefix}{}", parameter.name);
        let got = engine.read(part, index).unwrap().to_f32();
        assert_within(&name, relative_l2(&got, &fixture.floats(&name)), tolerance);
    }
}

/// The mean over some targets alone, as `ignore_index` of PyTorch has it.
#[test]
fn a_masked_loss_is_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures/masked.json");
    let masked: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let fixture = Fixture::load(masked["case"].as_str().unwrap());
    let masks = masked["masks"].as_object().unwrap();
    assert_eq!(masks.len(), 4);
    for (name, want) in masks {
        for micro_batch_size in [4, 2] {
            let (model, train) = fixture.configs("unclipped");
            let train = TrainConfig {
                micro_batch_size,
                ..train
            };
            let mut engine = engine_of(&fixture, &model, &train, floor_device(None));
            let mut batch = fixture.batch(0, &model, &train);
            let counts = want["counts"].as_str().unwrap();
            assert_eq!(counts.len(), batch.targets.len());
            for (target, counts) in batch.targets.iter_mut().zip(counts.chars()) {
                if counts == '0' {
                    *target = IGNORED;
                }
            }
            engine
                .submit_step(&engine.packer().pack(&batch), 0.0, 1)
                .unwrap();
            let loss = engine.take_metrics().unwrap().unwrap().loss;
            assert_relative(name, loss, want["loss"].as_f64().unwrap(), LOSS_TOLERANCE);
            for (index, parameter) in engine.table().iter().enumerate() {
                let gradient = engine.read(Part::Gradients, index).unwrap().to_f32();
                let squares = gradient.iter().map(|&v| f64::from(v).powi(2));
                let norm = squares.sum::<f64>().sqrt();
                let wanted = want["gradient_norms"][&parameter.name].as_f64().unwrap();
                assert_within(name, (norm / wanted - 1.0).abs(), GRADIENT_TOLERANCE);
            }
        }
    }
}

fn follow(case: &str, run: &str, device: Device) {
    let fixture = Fixture::load(case);
    let (mut engine, model, train) = engine(&fixture, run, device);
    let want = &fixture.json["runs"][run];
    for iteration in 0..20 {
        let batch = fixture.batch(iteration, &model, &train);
        let rate = learning_rate(&train, iteration as u64);
        engine
            .submit_step(&engine.packer().pack(&batch), rate, iteration as u64 + 1)
            .unwrap();
        let metrics = engine.take_metrics().unwrap().unwrap();
        let at = |what: &str| format!("{case} {run}: {what} of iteration {iteration}");
        let want_of = |key: &str| want[key][iteration].as_f64().unwrap();
        assert_relative(&at("loss"), metrics.loss, want_of("loss"), LOSS_TOLERANCE);
        assert_relative(
            &at("grad_norm"),
            metrics.grad_norm,
            want_of("grad_norm"),
            NORM_TOLERANCE,
        );
        if iteration == 0 {
            assert_tensors(
                &fixture,
                &engine,
                Part::Gradients,
                "grad0.",
                GRADIENT_TOLERANCE,
            );
        }
        if iteration == 9 {
            let prefix = format!("{run}.params10.");
            assert_tensors(
                &fixture,
                &engine,
                Part::Parameters,
                &prefix,
                PARAMETER_TOLERANCE,
            );
        }
    }
}

#[test]
fn training_follows_pytorch_with_clipping() {
    for case in CASES {
        follow(case, "clipped", floor_device(None));
    }
}

#[test]
fn training_follows_pytorch_without_clipping() {
    for case in CASES {
        follow(case, "unclipped", floor_device(None));
    }
}

#[test]
fn training_follows_pytorch_with_the_kernels_of_a_gpu() {
    for case in CASES {
        follow(case, "clipped", floor_device(Some(AdapterClass::Gpu)));
    }
}

/// A device with all that the adapter has, whose plans take this variant; `None` where the adapter
/// cannot run it.
fn forced(name: &str) -> Option<Device> {
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let family = family_of(name).unwrap();
    if let Some(obstacle) = family.obstacle(&device.target(), name) {
        assert!(obstacle.contains("subgroups"), "{name}: {obstacle}");
        return None;
    }
    Some(device.with_choices(Choices::forced(&[name.to_owned()])))
}

/// A row's product is in no training step; decoding has it, below. The fixtures are of f32.
#[test]
fn training_follows_pytorch_by_every_variant() {
    let in_f32 = |n: &&String| *n != "matmul.row" && !takes_halves(n);
    for name in variants().iter().filter(in_f32) {
        let Some(device) = forced(name) else { continue };
        for case in CASES {
            let (model, train) = Fixture::load(case).configs("clipped");
            let plan = StepPlan::new(&model, &train, device.target()).plan;
            assert_eq!(expect_forced(&plan, name), Ok(()));
            follow(case, "clipped", device.clone());
        }
    }
}

fn saved_model(fixture: &Fixture, folder: &Path) -> PathBuf {
    let (engine, ..) = engine(fixture, "clipped", floor_device(None));
    let metadata = Metadata {
        iteration: 0,
        config: fixture.json["config"].as_object().unwrap().clone(),
        tokenizer_hash: None,
        train_loss: None,
        val_loss: None,
        best_val_loss: None,
        base: None,
        tuning: None,
    };
    let path = folder.join("init.safetensors");
    let state = engine.state().unwrap();
    checkpoint::save(&path, engine.table(), &state, &metadata).unwrap();
    path
}

#[test]
fn decoding_gives_pytorchs_logits() {
    decode(&floor_device(None));
}

#[test]
fn decoding_gives_pytorchs_logits_by_every_variant() {
    let in_f32 = variants().into_iter().filter(|name| !takes_halves(name));
    for device in in_f32.filter_map(|name| forced(&name)) {
        decode(&device);
    }
}

fn decode(device: &Device) {
    for case in CASES {
        let fixture = Fixture::load(case);
        let folder = tempfile::tempdir().unwrap();
        let path = saved_model(&fixture, folder.path());
        let model = InferenceModel::open(&path, device.target().max_binding_words).unwrap();
        let (time, vocab) = (model.config.context_length, model.config.vocab_size);
        let mut generator = Generator::new(device.clone(), model, 1).unwrap();
        let (tokens, want) = (fixture.words("tokens"), fixture.floats("logits0"));
        let too_long = generator.logits(&tokens[..=time]).unwrap_err().to_string();
        assert!(
            too_long.contains(&format!("context of {time}")),
            "{too_long}"
        );
        for end in 1..=time {
            let got = generator.logits(&tokens[..end]).unwrap();
            let want = &want[(end - 1) * vocab..end * vocab];
            assert_within(
                &format!("{case}: logits after {end}"),
                relative_l2(&got, want),
                LOGITS_TOLERANCE,
            );
        }
    }
}
