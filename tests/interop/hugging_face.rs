//! Models of `transformers`, in and out, against what `transformers` computes with them: fixtures that
//! `make_hugging_face_fixtures.py` wrote.

use std::path::{Path, PathBuf};

use gpu_tlm::checkpoint::Checkpoint;
use gpu_tlm::config::{ModelConfig, Settings};
use gpu_tlm::data::dataset::Batch;
use gpu_tlm::decode::{Generator, InferenceModel};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet};
use gpu_tlm::interop::{ForeignModel, InteropError, Naming, Shape, TensorInfo, TensorSource};
use gpu_tlm::train::engine::{Engine, Part};
use safetensors::SafeTensors;

/// Positions of the fixtures' sequences.
const TIME: usize = 96;
const BATCH: usize = 2;

/// Of each family, with grouped heads and scaled angles where it has them.
const CASES: [&str; 5] = [
    "llama_grouped",
    "llama_tied_head_dim",
    "qwen3",
    "gpt2",
    "smollm2",
];

/// The largest difference of a logit. PyTorch's own f32 differs from its f64 by up to 2.8e-5 here, of logits up to
/// about 20.
const LOGITS_TOLERANCE: f32 = 1e-4;
/// PyTorch's own f32 differs by up to 1e-7.
const LOSS_TOLERANCE: f64 = 3e-6;
/// L2 error of a gradient tensor, relative to its length; PyTorch's own f32 differs by up to 5.3e-6.
const GRADIENT_TOLERANCE: f64 = 2e-5;

pub(super) fn folder(case: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/interop/fixtures/hugging_face").join(case)
}

/// What `transformers` computed, in f64.
struct Expected {
    path: PathBuf,
    bytes: Vec<u8>,
    gradients: Vec<TensorInfo>,
}

const GRADIENT: &str = "grad.";

impl Expected {
    fn of(case: &str) -> Self {
        let path = folder(case).join("expected.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let gradient = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
            Some(TensorInfo {
                name: name.strip_prefix(GRADIENT)?.to_owned(),
                element_type: gpu_tlm::interop::ElementType::F32,
                shape: tensor.shape().to_vec(),
            })
        };
        let gradients = tensors.tensors().into_iter().filter_map(gradient).collect();
        Self {
            path,
            bytes,
            gradients,
        }
    }

    fn bytes_of(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.tensor(name).unwrap().data().to_vec()
    }

    fn words(&self, name: &str) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.bytes_of(name))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes_of(name))
    }
}

/// The gradients lie as the weights do, so they are read as these are.
impl TensorSource for Expected {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.gradients
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        Ok(self.bytes_of(&format!("{GRADIENT}{}", self.gradients[index].name)))
    }
}

fn open(case: &str) -> (Checkpoint, ModelConfig) {
    let mut checkpoint = Checkpoint::open(&folder(case)).unwrap();
    checkpoint.limit_context(TIME).unwrap();
    let config = checkpoint.model().unwrap();
    (checkpoint, config)
}

fn device(class: Option<AdapterClass>) -> Device {
    let options = DeviceOptions {
        limits: LimitSet::PortableFloor,
        class,
        ..DeviceOptions::default()
    };
    Device::open(&options).unwrap()
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt()
}

fn distance(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let pairs = got.iter().zip(want);
    let squares = pairs.map(|(g, w)| (f64::from(*g) - f64::from(*w)).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Loss and every gradient of a model, on a device of either class.
fn train_one_step(case: &str, class: Option<AdapterClass>) {
    let (checkpoint, config) = open(case);
    let expected = Expected::of(case);
    let settings = Settings {
        batch_size: BATCH,
        ..Settings::default()
    };
    let train = settings.train().unwrap();
    let mut engine = Engine::new(device(class), &config, &train).unwrap();
    engine.restore(&checkpoint.initial_state(engine.table(), 0).unwrap());
    let batch = Batch {
        tokens: expected.words("input_ids"),
        targets: expected.words("targets"),
        ..Batch::default()
    };
    let packed = engine.packer().pack(&batch);
    engine.submit_step(&packed, 1e-3, 1).unwrap();
    let loss = f64::from(engine.take_metrics().unwrap().unwrap().loss);
    let want = f64::from(expected.floats("loss")[0]);
    let error = (loss / want - 1.0).abs();
    assert!(error <= LOSS_TOLERANCE, "{case}: loss {loss} for {want}");
    let naming = match case.starts_with("gpt2") {
        true => Naming::Gpt2,
        false => Naming::Llama,
    };
    let keys = checkpoint.known().unwrap();
    let gradients = ForeignModel::new("gradients", naming, Shape::told(keys), Box::new(expected));
    for (index, parameter) in engine.table().iter().enumerate() {
        let got = engine.read(Part::Gradients, index).unwrap().to_f32();
        let want = gradients.read(&config, parameter).unwrap().to_f32();
        let name = &parameter.name;
        // The same added to all scores of a query changes no weight, so a key's bias has no gradient.
        let scale = match name.strip_suffix("k_proj.bias") {
            None => length(&want),
            Some(module) => {
                let id = engine.table().id(&format!("{module}v_proj.bias"));
                let value = gradients.read(&config, &engine.table()[id]);
                length(&value.unwrap().to_f32())
            }
        };
        let error = distance(&got, &want) / scale;
        assert!(
            error <= GRADIENT_TOLERANCE,
            "{case} {class:?}: {name} is {error:e} off"
        );
    }
}

#[test]
fn loss_and_gradients_are_pytorchs() {
    for case in CASES {
        train_one_step(case, None);
    }
}

#[test]
fn loss_and_gradients_are_pytorchs_with_the_kernels_of_a_gpu() {
    for case in CASES {
        train_one_step(case, Some(AdapterClass::Gpu));
    }
}

/// The logits of a model at every third position of each sequence, and at the last.
fn compare_logits(case: &str, class: Option<AdapterClass>) {
    let (checkpoint, config) = open(case);
    let expected = Expected::of(case);
    let device = device(class);
    let words = device.target().max_binding_words;
    let model = InferenceModel::new(checkpoint, words).unwrap();
    let mut generator = Generator::new(device, model, 1).unwrap();
    let (ids, logits) = (expected.words("input_ids"), expected.floats("logits"));
    let vocab = config.vocab_size;
    for (sequence, ids) in ids.chunks(TIME).enumerate() {
        for end in (1..TIME).step_by(3).chain([TIME]) {
            let got = generator.logits(&ids[..end]).unwrap();
            let row = sequence * TIME + end - 1;
            let want = &logits[row * vocab..(row + 1) * vocab];
            for (token, (got, want)) in got.iter().zip(want).enumerate() {
                assert!(
                    (got - want).abs() <= LOGITS_TOLERANCE,
                    "{case} {class:?}: logit {token} after {end} tokens is {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn logits_are_pytorchs() {
    for case in [&CASES[..], &["mistral", "llama_sharded", "llama_f16"]].concat() {
        compare_logits(case, None);
    }
}

#[test]
fn logits_are_pytorchs_with_the_kernels_of_a_gpu() {
    for case in CASES {
        compare_logits(case, Some(AdapterClass::Gpu));
    }
}
