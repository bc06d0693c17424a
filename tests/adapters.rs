//! Low-rank adapters in training, against the same model with the adapters added to its weights.

use gpu_tlm::check::step::{random_batch, tiny_model, train_config};
use gpu_tlm::config::{
    Activation, LoraConfig, ModelConfig, Norm, Positions, Precision, TrainConfig,
};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions, LimitSet};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::train::step_plan::StepPlan;
use gpu_tlm::weights::{HostTensor, Parameter, Role, adapted_name, adapter_name};

fn device(class: Option<AdapterClass>) -> Device {
    let options = DeviceOptions {
        limits: LimitSet::PortableFloor,
        class,
        ..DeviceOptions::default()
    };
    Device::open(&options).unwrap()
}

fn adapted(targets: &[&str], train: TrainConfig) -> TrainConfig {
    TrainConfig {
        lora: Some(LoraConfig {
            rank: 3,
            alpha: 4.5,
            targets: targets.iter().map(|&target| target.to_owned()).collect(),
        }),
        ..train
    }
}

fn index_of(engine: &Engine, name: &str) -> usize {
    engine.table().iter().position(|p| p.name == name).unwrap()
}

#[allow(clippy::cast_possible_truncation, reason = "weights are f32")]
fn as_f32(value: f64) -> f32 {
    value as f32
}

fn read(engine: &Engine, part: Part, name: &str) -> Vec<f32> {
    engine.read(part, index_of(engine, name)).unwrap().to_f32()
}

fn write(engine: &Engine, name: &str, values: &[f32]) {
    let tensor = HostTensor::from_f32(values);
    engine.write(Part::Parameters, index_of(engine, name), &tensor);
}

/// `[m, k]` times `[k, n]`, each of which may lie transposed, in f64.
fn product(a: &[f32], b: &[f32], m: usize, n: usize, transposed: [bool; 2]) -> Vec<f64> {
    let k = a.len() / m;
    let at =
        |values: &[f32], transposed: bool, row: usize, col: usize, rows: usize, cols: usize| {
            let index = match transposed {
                false => row * cols + col,
                true => col * rows + row,
            };
            f64::from(values[index])
        };
    let element = |i: usize| {
        let (row, col) = (i / n, i % n);
        let one =
            |x: usize| at(a, transposed[0], row, x, m, k) * at(b, transposed[1], x, col, k, n);
        (0..k).map(one).sum()
    };
    (0..m * n).map(element).collect()
}

fn assert_near(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let error: f64 = got
        .iter()
        .zip(want)
        .map(|(g, w)| (f64::from(*g) - w).powi(2))
        .sum();
    let scale: f64 = want.iter().map(|w| w * w).sum();
    let relative = (error / scale).sqrt();
    assert!(scale > 0.0, "{what} is zero");
    assert!(
        relative <= tolerance,
        "{what}: {relative:e} over {tolerance:e}"
    );
}

/// The adapters of a model, with random values in both matrices.
fn randomise_adapters(engine: &Engine) {
    let adapters = engine.table().iter().enumerate();
    for (index, p) in adapters.filter(|(_, p)| adapted_name(&p.name).is_some()) {
        let random = gpu_tlm::random::Philox::new(index as u64, gpu_tlm::random::Stream::Init);
        let values: Vec<f32> = (0..p.len())
            .map(|i| as_f32(0.3 * random.normal(i as u64)))
            .collect();
        write(engine, &p.name, &values);
    }
}

/// One step of the model with adapters, and one of the model whose weights have them added: the loss, and the
/// gradients of the adapters by the chain rule from those of the weights.
fn expect_the_gradients_of_added_weights(
    model: &ModelConfig,
    targets: &[&str],
    train: &TrainConfig,
    class: Option<AdapterClass>,
    tolerance: f64,
) {
    let train_adapted = adapted(targets, train.clone());
    let scale = train_adapted.lora.as_ref().unwrap().scale();
    let mut with_adapters = Engine::new(device(class), model, &train_adapted).unwrap();
    let mut added = Engine::new(device(class), model, train).unwrap();
    with_adapters.initialise(3);
    added.initialise(3);
    randomise_adapters(&with_adapters);
    let weights: Vec<Parameter> = added.table().iter().cloned().collect();
    let of_adapter = |weight: &Parameter, part: Part| {
        ['A', 'B'].map(|which| read(&with_adapters, part, &adapter_name(&weight.name, which)))
    };
    let names: Vec<&str> = with_adapters
        .table()
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    let has_adapter = |p: &&Parameter| names.contains(&&*adapter_name(&p.name, 'A'));
    let adapted: Vec<&Parameter> = weights.iter().filter(has_adapter).collect();
    assert!(!adapted.is_empty());
    for weight in &adapted {
        let [a, b] = of_adapter(weight, Part::Parameters);
        let delta = product(&b, &a, weight.rows, weight.cols, [false, false]);
        let own = read(&added, Part::Parameters, &weight.name);
        let sum = own
            .iter()
            .zip(delta)
            .map(|(own, delta)| own + scale * as_f32(delta));
        write(&added, &weight.name, &sum.collect::<Vec<f32>>());
    }
    let batch = random_batch(model, train.batch_size);
    let [loss, wanted] = [&mut with_adapters, &mut added].map(|engine| {
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 0.0, 1).unwrap();
        f64::from(engine.take_metrics().unwrap().unwrap().loss)
    });
    assert!(
        (loss - wanted).abs() <= tolerance * wanted,
        "{loss} is not {wanted}"
    );
    for weight in &adapted {
        let name = &weight.name;
        let d_weight = read(&added, Part::Gradients, name);
        let [a, b] =
            ['A', 'B'].map(|w| read(&with_adapters, Part::Parameters, &adapter_name(name, w)));
        let [d_a, d_b] =
            ['A', 'B'].map(|w| read(&with_adapters, Part::Gradients, &adapter_name(name, w)));
        let rank = a.len() / weight.cols;
        let scaled = |values: Vec<f64>| {
            values
                .into_iter()
                .map(|v| f64::from(scale) * v)
                .collect::<Vec<_>>()
        };
        let want_a = scaled(product(&b, &d_weight, rank, weight.cols, [true, false]));
        let want_b = scaled(product(&d_weight, &a, weight.rows, rank, [false, true]));
        assert_near(&d_a, &want_a, tolerance, &format!("A of {name}"));
        assert_near(&d_b, &want_b, tolerance, &format!("B of {name}"));
    }
}

fn with_head_norms() -> ModelConfig {
    let mut model = tiny_model(16, false);
    model.architecture.qk_norm = true;
    model
}

fn like_gpt2() -> ModelConfig {
    let mut model = tiny_model(16, true);
    model.num_kv_heads = model.num_heads;
    let architecture = &mut model.architecture;
    architecture.norm = Norm::Layer;
    architecture.activation = Activation::Gelu;
    architecture.positions = Positions::Learned;
    architecture.biases = true;
    model
}

/// Errors of f32, and those of halves, which differ between a product with the sum and a sum of products.
const F32: f64 = 2e-5;
const MIXED: f64 = 2e-2;

#[test]
fn gradients_of_adapters_follow_from_those_of_the_weights_that_they_add_to() {
    let train = train_config(4, 2);
    let all: &[&str] = &["all-linear"];
    for (model, targets) in [
        (tiny_model(16, false), all),
        // Outputs of joined layers that begin where nothing can be bound.
        (tiny_model(6, true), all),
        (tiny_model(16, false), &["q_proj", "v_proj"]),
        (tiny_model(16, false), &["w2"]),
        (with_head_norms(), all),
        (like_gpt2(), all),
    ] {
        for class in [None, Some(AdapterClass::Gpu)] {
            expect_the_gradients_of_added_weights(&model, targets, &train, class, F32);
        }
    }
}

#[test]
fn adapters_train_in_mixed_precision() {
    let model = ModelConfig {
        precision: Precision::Mixed,
        ..tiny_model(16, false)
    };
    let train = train_config(4, 2);
    expect_the_gradients_of_added_weights(&model, &["all-linear"], &train, None, MIXED);
}

#[test]
fn adapters_train_with_activation_checkpointing() {
    let train = TrainConfig {
        activation_checkpointing: true,
        ..train_config(4, 2)
    };
    let model = tiny_model(16, false);
    expect_the_gradients_of_added_weights(&model, &["all-linear"], &train, None, F32);
}

/// The matrix B of a new adapter is zero.
#[test]
fn a_new_adapter_changes_nothing() {
    let (model, train) = (tiny_model(16, false), train_config(4, 2));
    let batch = random_batch(&model, 4);
    let losses = [train.clone(), adapted(&["all-linear"], train)].map(|train| {
        let mut engine = Engine::new(device(None), &model, &train).unwrap();
        engine.initialise(3);
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 0.0, 1).unwrap();
        engine.take_metrics().unwrap().unwrap().loss
    });
    assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
}

/// No product is computed, and no memory is held, for a gradient that nobody takes.
#[test]
fn what_is_below_the_lowest_adapter_has_no_backward_pass() {
    let model = ModelConfig {
        num_layers: 3,
        ..tiny_model(16, false)
    };
    let device = device(None);
    let flops = |train: &TrainConfig| {
        let step = StepPlan::new(&model, train, device.target());
        let dispatches = step.plan.dispatches(step.sections.first);
        let mut of_layers = [0; 3];
        for dispatch in dispatches.iter().filter(|d| d.label.contains("matmul")) {
            for (layer, flops) in of_layers.iter_mut().enumerate() {
                if dispatch.label.contains(&format!("layers.{layer}.")) {
                    *flops += dispatch.flops;
                }
            }
        }
        let persistent = |part: &str| -> u64 {
            let parts = step.memory.parts();
            parts
                .filter(|(name, _)| name.starts_with(part))
                .map(|(_, bytes)| bytes)
                .sum()
        };
        let held = ["gradients", "moment1", "moment2"].map(persistent);
        (of_layers, held)
    };
    let train = train_config(4, 4);
    let ([full, ..], _) = flops(&train);
    let (of_layers, held) = flops(&adapted(
        &["layers.1.attn.v_proj", "layers.2.ffn.w2"],
        train.clone(),
    ));
    // Forward is a third of all; the input's gradient another one.
    assert_eq!(3 * of_layers[0], full);
    assert!(
        of_layers[1] > of_layers[0] && of_layers[2] > of_layers[1],
        "{of_layers:?}"
    );
    assert!(
        3 * of_layers[2] < 2 * full + full / 10,
        "{of_layers:?} of {full}"
    );
    let table = StepPlan::new(
        &model,
        &adapted(&["layers.1.attn.v_proj", "layers.2.ffn.w2"], train),
        device.target(),
    )
    .table;
    let trained = table.iter().filter(|p| p.role == Role::Trainable);
    // Tensors begin at multiples of 512 bytes.
    let most: usize = trained.map(|p| (4 * p.len()).next_multiple_of(512)).sum();
    assert!(
        held.iter().all(|&bytes| bytes > 0 && bytes <= most as u64),
        "{held:?}"
    );
}
