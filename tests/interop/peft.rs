//! Adapters of PEFT, in and out, against what PEFT computes with them: fixtures that `make_peft_fixtures.py` wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gpu_tlm::checkpoint::{Base, Checkpoint, save_adapters};
use gpu_tlm::config::{LoraConfig, ModelConfig, Settings, TrainConfig};
use gpu_tlm::convert::{ExportFormat, export};
use gpu_tlm::data::dataset::Batch;
use gpu_tlm::decode::{Generator, InferenceModel};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet};
use gpu_tlm::interop::{PeftFolder, StoredType};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::weights::{AdapterValues, HostTensor, Parameter, adapter_name};
use safetensors::SafeTensors;

use super::hugging_face;

const TIME: usize = 96;
const CASES: [(&str, &str); 6] = [
    ("llama", "llama_grouped"),
    ("llama_all", "llama_grouped"),
    ("qwen3", "qwen3"),
    ("qwen3_all", "qwen3"),
    ("gpt2", "gpt2"),
    ("gpt2_all", "gpt2"),
];
/// As those of the models without adapters.
const LOGITS_TOLERANCE: f32 = 1e-4;
const LOSS_TOLERANCE: f64 = 3e-6;
const GRADIENT_TOLERANCE: f64 = 2e-5;

fn folder(case: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/interop/fixtures/peft").join(case)
}

fn device(class: Option<AdapterClass>) -> Device {
    let options = DeviceOptions {
        limits: LimitSet::PortableFloor,
        class,
        ..DeviceOptions::default()
    };
    Device::open(&options).unwrap()
}

fn bytes_of(path: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().to_vec()
}

fn floats(path: &Path, name: &str) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&bytes_of(path, name))
}

fn words(path: &Path, name: &str) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&bytes_of(path, name))
}

fn open(path: &Path) -> (Checkpoint, ModelConfig) {
    let mut checkpoint = Checkpoint::open(path).unwrap();
    checkpoint.limit_context(TIME).unwrap();
    let config = checkpoint.model().unwrap();
    checkpoint.check(&config).unwrap();
    (checkpoint, config)
}

/// The logits behind the last position of each sequence, of adapters that are added to their model.
fn expect_logits(case: &str, base: &str, checkpoint: Checkpoint) {
    let device = device(None);
    let most = device.target().max_binding_words;
    let model = InferenceModel::new(checkpoint, most).unwrap();
    let mut generator = Generator::new(device, model, 1).unwrap();
    let ids = words(&hugging_face::folder(base), "input_ids");
    let want = floats(&folder(case), "logits");
    let vocab = want.len() * TIME / ids.len();
    for (ids, want) in ids.chunks(TIME).zip(want.chunks(vocab)) {
        let got = generator.logits(ids).unwrap();
        let errors = got.iter().zip(want).map(|(g, w)| (g - w).abs());
        let largest = errors.fold(0.0, f32::max);
        assert!(largest <= LOGITS_TOLERANCE, "{case}: {largest:e} off");
    }
}

#[test]
fn logits_with_adapters_are_pefts() {
    for (case, base) in CASES {
        expect_logits(case, base, open(&folder(case)).0);
    }
}

#[test]
fn adapters_leave_as_they_came() {
    for (case, base) in CASES {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoint, _) = open(&folder(case));
        export(
            &checkpoint,
            None,
            ExportFormat::Peft,
            StoredType::F32,
            dir.path(),
        )
        .unwrap();
        expect_logits(case, base, open(dir.path()).0);
        // Added to the model, they are in any other format.
        let merged = dir.path().join("merged");
        export(
            &checkpoint,
            None,
            ExportFormat::Hf,
            StoredType::F32,
            &merged,
        )
        .unwrap();
        expect_logits(case, base, open(&merged).0);
    }
}

/// An engine that trains the adapters of a case, with their values.
fn engine(case: &str, class: Option<AdapterClass>) -> (Engine, Vec<(Parameter, AdapterValues)>) {
    let (checkpoint, config) = open(&folder(case));
    let adapters = checkpoint.adapters(&config).unwrap();
    let first = &adapters[0].1;
    let module = |weight: &Parameter| weight.name.rsplit('.').nth(1).unwrap().to_owned();
    let train = TrainConfig {
        lora: Some(LoraConfig {
            rank: first.rank,
            alpha: first.alpha,
            targets: adapters.iter().map(|(weight, _)| module(weight)).collect(),
        }),
        ..Settings {
            batch_size: 2,
            ..Settings::default()
        }
        .train()
        .unwrap()
    };
    let engine = Engine::new(device(class), &config, &train).unwrap();
    let base = checkpoint.base().unwrap();
    engine.restore(&base.initial_state(engine.table(), 0).unwrap());
    for (weight, values) in &adapters {
        for (which, values) in [('A', &values.a), ('B', &values.b)] {
            let name = adapter_name(&weight.name, which);
            let index = engine.table().id(&name).index();
            engine.write(Part::Parameters, index, &HostTensor::from_f32(values));
        }
    }
    (engine, adapters)
}

fn expect_near(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = got.iter().zip(want);
    let error = square(&mut pairs.map(|(g, w)| f64::from(*g) - f64::from(*w)));
    let error = error / square(&mut want.iter().map(|w| f64::from(*w)));
    assert!(error <= GRADIENT_TOLERANCE, "{what} is {error:e} off");
}

fn train_one_step(case: &str, base: &str, class: Option<AdapterClass>) {
    let (mut engine, adapters) = engine(case, class);
    let source = hugging_face::folder(base);
    let batch = Batch {
        tokens: words(&source, "input_ids"),
        targets: words(&source, "targets"),
        ..Batch::default()
    };
    let packed = engine.packer().pack(&batch);
    engine.submit_step(&packed, 0.0, 1).unwrap();
    let loss = f64::from(engine.take_metrics().unwrap().unwrap().loss);
    let want = f64::from(floats(&folder(case), "loss")[0]);
    assert!(
        (loss / want - 1.0).abs() <= LOSS_TOLERANCE,
        "{case}: loss {loss} for {want}"
    );
    let gradients = PeftFolder::open(&folder(case).join("gradients")).unwrap();
    let config = engine.table().config();
    // GPT-2 has one A for queries, keys and values, whose gradient is the sum of those of ours.
    let mut of_modules: BTreeMap<String, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    for (weight, _) in &adapters {
        let want = gradients.read(config, weight).unwrap().unwrap();
        let [d_a, d_b] = ['A', 'B'].map(|which| {
            let index = engine
                .table()
                .id(&adapter_name(&weight.name, which))
                .index();
            engine.read(Part::Gradients, index).unwrap().to_f32()
        });
        let what = format!("{case} {class:?}: {}", weight.name);
        expect_near(&format!("{what}: B"), &d_b, &want.b);
        let module = match base == "gpt2"
            && weight.name.contains("attn.")
            && !weight.name.contains("output")
        {
            true => weight.name.split(".attn").next().unwrap().to_owned(),
            false => weight.name.clone(),
        };
        let sum = of_modules
            .entry(module)
            .or_insert_with(|| (vec![0.0; d_a.len()], want.a));
        sum.0.iter_mut().zip(d_a).for_each(|(sum, own)| *sum += own);
    }
    for (module, (got, want)) in of_modules {
        expect_near(&format!("{case} {class:?}: {module}: A"), &got, &want);
    }
}

#[test]
fn gradients_of_adapters_are_pefts() {
    for (case, base) in CASES {
        // A rank of its own for some modules is for reading alone.
        if case == "qwen3" {
            continue;
        }
        train_one_step(case, base, None);
        train_one_step(case, base, Some(AdapterClass::Gpu));
    }
}

#[test]
fn adapters_in_training_are_saved_as_peft_has_them() {
    for (case, base) in [("llama", "llama_grouped"), ("gpt2_all", "gpt2")] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = engine(case, None);
        let noted = Base::new(&hugging_face::folder(base));
        let state = engine.saved_state().unwrap();
        save_adapters(dir.path(), engine.table(), &state, &noted).unwrap();
        expect_logits(case, base, open(dir.path()).0);
    }
}

#[test]
fn what_is_no_plain_adapter_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let from = folder("llama");
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let base = hugging_face::folder("llama_grouped");
    let error = |key: &str, value: serde_json::Value| {
        let text = std::fs::read_to_string(from.join("adapter_config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config[key] = value;
        std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
        let opened = Checkpoint::open_beside(dir.path(), Some(&base));
        let checked = opened.and_then(|checkpoint| {
            let config = checkpoint.model()?;
            checkpoint.check(&config)
        });
        checked.unwrap_err().to_string()
    };
    for (key, value, wanted) in [
        (
            "use_dora",
            serde_json::json!(true),
            "use_dora = true is not supported",
        ),
        (
            "bias",
            serde_json::json!("all"),
            "bias = \"all\" is not supported",
        ),
        (
            "modules_to_save",
            serde_json::json!(["lm_head"]),
            "modules_to_save = [\"lm_head\"] is not supported",
        ),
        (
            "alpha_pattern",
            serde_json::json!({"layers.[0-3].self_attn.q_proj": 8}),
            "alpha_pattern \"layers.[0-3].self_attn.q_proj\", a regular expression",
        ),
        (
            "alpha_pattern",
            serde_json::json!({"q_proj": "8"}),
            "alpha_pattern \"q_proj\" = \"8\" is not supported",
        ),
        ("peft_type", serde_json::json!("IA3"), "peft_type \"IA3\""),
        ("r", serde_json::json!("four"), "adapter_config.json"),
    ] {
        let error = error(key, value);
        assert!(error.contains(wanted), "{key}: {error}");
    }
    // Of another model.
    let other = hugging_face::folder("qwen3");
    let opened = Checkpoint::open_beside(&folder("gpt2"), Some(&other)).unwrap();
    let error = opened
        .check(&opened.model().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it has no adapter of a linear layer of this model"),
        "{error}"
    );
    let missing = Checkpoint::open(dir.path());
    let _ = std::fs::remove_file(dir.path().join("adapter_model.safetensors"));
    assert!(missing.is_err());
}
