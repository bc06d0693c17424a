//! A step on the device against the f64 model, and against itself in other shapes.

use std::collections::BTreeMap;

use gpu_tlm::check::step::{self, random_batch, tiny_model, train_config};
use gpu_tlm::config::{ModelConfig, Precision, TrainConfig};
use gpu_tlm::decode::ScorePlan;
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::kernels::cross_entropy::IGNORED;
use gpu_tlm::kernels::loss_scale::{GROWTH_INTERVAL, LossScale};
use gpu_tlm::train::engine::{Engine, Part};
use gpu_tlm::train::step_plan::StepPlan;
use gpu_tlm::weights::{Parameter, ParameterTable, Role};

fn engine(model: &ModelConfig, train: &TrainConfig) -> Engine {
    engine_on(&DeviceOptions::default(), model, train)
}

fn engine_on(options: &DeviceOptions, model: &ModelConfig, train: &TrainConfig) -> Engine {
    let engine = Engine::new(Device::open(options).unwrap(), model, train).unwrap();
    engine.initialise(3);
    engine
}

fn gradients(engine: &Engine) -> BTreeMap<String, Vec<f32>> {
    let read = |(index, p): (usize, &Parameter)| {
        let gradient = engine.read(Part::Gradients, index).unwrap();
        (p.name.clone(), gradient.to_f32())
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
fn a_step_matches_the_f64_model() {
    let device = Device::open(&DeviceOptions::default()).unwrap();
    for (head_dim, tie_embeddings) in [(6, false), (16, true), (80, false)] {
        let model = tiny_model(head_dim, tie_embeddings);
        let tensors = step::check(&device, &model, &train_config(3, 3)).unwrap();
        let parameters = if tie_embeddings { 20 } else { 21 };
        assert_eq!(
            tensors.len(),
            2 + 2 * parameters,
            "loss, norm, and two a parameter"
        );
        let failures: Vec<_> = tensors.into_iter().filter_map(|t| t.failure).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// The mean is over the targets of the whole step that count, in whichever micro-batch they are.
#[test]
fn a_step_whose_targets_count_in_part_matches_the_f64_model() {
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let model = tiny_model(16, true);
    let time = model.context_length;
    let last_of_first = |i: usize| i < time && i % 4 == 3;
    let counts: [&dyn Fn(usize) -> bool; 3] = [
        &|i| i % 3 == 0,
        // None in the second row, and none in the second micro-batch.
        &|i| i < time,
        &last_of_first,
    ];
    for counts in counts {
        let mut batch = random_batch(&model, 4);
        for (i, target) in batch.targets.iter_mut().enumerate() {
            if !counts(i) {
                *target = IGNORED;
            }
        }
        let tensors = step::check_batch(&device, &model, &train_config(4, 2), &batch).unwrap();
        let failures: Vec<_> = tensors.into_iter().filter_map(|t| t.failure).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

#[test]
fn a_step_without_any_target_that_counts_has_no_loss_and_no_gradient() {
    for model in [tiny_model(16, false), mixed(tiny_model(16, false))] {
        let mut engine = engine(&model, &train_config(4, 2));
        let mut batch = random_batch(&model, 4);
        batch.targets.fill(IGNORED);
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 1e-2, 1).unwrap();
        let metrics = engine.take_metrics().unwrap().unwrap();
        assert_eq!((metrics.loss, metrics.grad_norm), (0.0, 0.0));
        assert!(
            gradients(&engine)
                .values()
                .flatten()
                .all(|&value| value == 0.0)
        );
    }
}

#[test]
fn micro_batches_add_up_to_the_gradients_of_the_whole_batch() {
    let model = tiny_model(16, true);
    let batch = random_batch(&model, 8);
    let [whole, parts] = [8, 2].map(|micro| {
        let mut engine = engine(&model, &train_config(8, micro));
        // Twice, so that a sum that is never started afresh shows.
        for t in 1..=2 {
            engine
                .submit_step(&engine.packer().pack(&batch), 0.0, t)
                .unwrap();
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
    let (model, train) = (tiny_model(16, false), train_config(2, 2));
    let values = |seed: u64| {
        let engine = engine(&model, &train);
        engine.initialise(seed);
        engine.read(Part::Parameters, 2).unwrap().to_f32()
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
    let (model, train) = (tiny_model(16, false), train_config(4, 2));
    let batch = random_batch(&model, 4);
    let state = |options: &DeviceOptions| {
        let mut engine = engine_on(options, &model, &train);
        for t in 1..=3 {
            engine
                .submit_step(&engine.packer().pack(&batch), 1e-2, t)
                .unwrap();
        }
        let tensors = 0..engine.table().iter().count();
        let read = |index| engine.read(Part::Parameters, index).unwrap().to_f32();
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

/// The same kernels run on the same numbers once more, so no bit may differ.
#[test]
fn activation_checkpointing_changes_no_bit_and_takes_less_memory() {
    let model = ModelConfig {
        num_layers: 6,
        ..tiny_model(16, false)
    };
    let batch = random_batch(&model, 4);
    let [plain, checkpointed] = [false, true].map(|activation_checkpointing| {
        let train = TrainConfig {
            activation_checkpointing,
            ..train_config(4, 2)
        };
        let mut engine = engine(&model, &train);
        for t in 1..=2 {
            let packed = engine.packer().pack(&batch);
            engine.submit_step(&packed, 1e-2, t).unwrap();
        }
        (gradients(&engine), engine.planned_bytes())
    });
    assert!(plain.0 == checkpointed.0, "gradients differ");
    assert!(
        checkpointed.1 < plain.1,
        "{} of {}",
        checkpointed.1,
        plain.1
    );
}

/// Three steps and one more are four, on whatever device the fourth runs.
#[test]
fn an_engine_built_from_anothers_state_goes_on_with_the_same_bits() {
    let (model, train) = (tiny_model(16, true), train_config(4, 2));
    let batch = random_batch(&model, 4);
    let step = |engine: &mut Engine, t| {
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 1e-2, t).unwrap();
        engine.take_metrics().unwrap().unwrap()
    };
    let mut whole = engine(&model, &train);
    for t in 1..=3 {
        step(&mut whole, t);
    }
    let state = whole.state().unwrap();
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let mut again = Engine::from_state(device, &model, &train, &state).unwrap();
    assert!(again.state().unwrap() == state);
    assert_eq!(step(&mut again, 4), step(&mut whole, 4));
    let after = whole.state().unwrap();
    assert!(again.state().unwrap() == after);
    assert!(after != state, "the fourth step changes something");
}

/// A step of mixed precision, which keeps a state of its own.
fn mixed(model: ModelConfig) -> ModelConfig {
    ModelConfig {
        precision: Precision::Mixed,
        ..model
    }
}

#[test]
fn mixed_precision_goes_on_with_the_same_bits_and_keeps_its_scale() {
    let (model, train) = (mixed(tiny_model(16, true)), train_config(4, 2));
    let batch = random_batch(&model, 4);
    let step = |engine: &mut Engine, t| {
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 1e-2, t).unwrap();
        engine.take_metrics().unwrap().unwrap()
    };
    let mut whole = engine(&model, &train);
    for t in 1..=3 {
        step(&mut whole, t);
    }
    let mut state = whole.state().unwrap();
    let scale = state.loss_scale.unwrap();
    assert_eq!((scale.good_steps, scale.skipped_steps), (3, 0));
    // One step before it grows.
    state.loss_scale = Some(LossScale {
        good_steps: GROWTH_INTERVAL - 1,
        ..scale
    });
    whole.restore(&state);
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let mut again = Engine::from_state(device, &model, &train, &state).unwrap();
    assert!(again.state().unwrap() == state);
    for t in 4..=5 {
        assert_eq!(step(&mut again, t), step(&mut whole, t));
    }
    let after = whole.state().unwrap();
    assert!(again.state().unwrap() == after);
    let grown = after.loss_scale.unwrap();
    assert_eq!((grown.scale, grown.good_steps), (2.0 * scale.scale, 1));
}

/// Gradients that are too large for halves change nothing but the scale; smaller ones do, by as much as
/// if nothing had been.
#[test]
fn a_step_whose_gradients_do_not_fit_halves_is_skipped() {
    let (model, train) = (mixed(tiny_model(16, false)), train_config(4, 2));
    let batch = random_batch(&model, 4);
    let mut engine = engine(&model, &train);
    let before = engine.state().unwrap();
    let first = before.loss_scale.unwrap();
    let mut overflowing = before.clone();
    let scale = 2f32.powi(40);
    overflowing.loss_scale = Some(LossScale { scale, ..first });
    engine.restore(&overflowing);
    let packed = engine.packer().pack(&batch);
    engine.submit_step(&packed, 1e-2, 1).unwrap();
    let metrics = engine.take_metrics().unwrap().unwrap();
    assert!(metrics.loss.is_finite() && !metrics.grad_norm.is_finite());
    let skipped = engine.state().unwrap();
    assert!(skipped.parameters == before.parameters && skipped.moments == before.moments);
    let state = skipped.loss_scale.unwrap();
    assert_eq!((state.scale, state.skipped_steps), (scale / 2.0, 1));
    assert_eq!(state.corrections, first.corrections);
    // The next step is AdamW's first.
    engine.restore(&before);
    engine.submit_step(&packed, 1e-2, 2).unwrap();
    let late = (engine.take_metrics().unwrap(), engine.state().unwrap());
    engine.restore(&before);
    engine.submit_step(&packed, 1e-2, 1).unwrap();
    assert!(late == (engine.take_metrics().unwrap(), engine.state().unwrap()));
    assert!(late.1.parameters != before.parameters);
}

#[test]
fn a_frozen_parameter_has_no_gradient_no_moments_and_no_update() {
    let others = ["token_embeddings", "ln1", "lm_head"];
    without_gradients(
        &[&others[..], &["layers.0.ffn.w1", "layers.0.ffn.w3"]].concat(),
        0.0,
    );
    // Where one of several weights is frozen, those beside it make products of their own, which round apart.
    without_gradients(
        &[&others[..], &["layers.0.ffn.w1", "layers.1.attn.k"]].concat(),
        1e-5,
    );
}

/// Trains a step without the parameters `frozen`, whose absence leaves the gradients of the others within
/// `tolerance`.
fn without_gradients(frozen: &[&str], tolerance: f64) {
    let model = tiny_model(16, false);
    let batch = random_batch(&model, 4);
    let frozen: Vec<String> = frozen.iter().map(|&part| part.to_owned()).collect();
    let build = |frozen: &[String]| {
        let device = Device::open(&DeviceOptions::default()).unwrap();
        let train = TrainConfig {
            freeze: frozen.to_vec(),
            ..train_config(4, 2)
        };
        let plan = StepPlan::new(&model, &train, device.target());
        let bytes = |part: &str| -> u64 {
            let parts = plan.memory.parts();
            parts
                .filter(|(l, _)| l.starts_with(part))
                .map(|(_, b)| b)
                .sum()
        };
        let sizes = ["parameters", "gradients", "moment1", "moment2"].map(bytes);
        let engine = Engine::of_plan(device, &model, &train, plan).unwrap();
        engine.initialise(3);
        (engine, sizes)
    };
    let (mut all, _) = build(&[]);
    let (mut some, [parameters, others @ ..]) = build(&frozen);
    // Tensors begin at multiples of 512 bytes, or right behind one another.
    let own = || some.table().iter().filter(|p| p.role == Role::Trainable);
    let least: usize = own().map(|p| 4 * p.len()).sum();
    let most: usize = own().map(|p| (4 * p.len()).next_multiple_of(512)).sum();
    assert!(
        (least as u64..=most as u64).contains(&others[0]),
        "{others:?}"
    );
    assert_eq!(others, [others[0]; 3]);
    assert!(parameters > others[0]);
    let before = some.state().unwrap();
    for engine in [&mut all, &mut some] {
        let packed = engine.packer().pack(&batch);
        engine.submit_step(&packed, 1e-2, 1).unwrap();
        engine.take_metrics().unwrap().unwrap();
    }
    let after = some.state().unwrap();
    let gradients = gradients(&all);
    for (index, p) in some.table().iter().enumerate() {
        let same = before.parameters[index] == after.parameters[index];
        let is_frozen = frozen.iter().any(|part| p.name.contains(part));
        assert_eq!(p.role == Role::Frozen, is_frozen, "{}", p.name);
        assert_eq!(same, is_frozen, "{}", p.name);
        if !is_frozen {
            let own = some.read(Part::Gradients, index).unwrap().to_f32();
            let wide = gradients[&p.name].iter().map(|&v| f64::from(v)).collect();
            let name = p.name.clone();
            assert_close(
                &[(name.clone(), own)].into(),
                &[(name, wide)].into(),
                tolerance,
            );
        }
    }
    let moments = after.moments.unwrap();
    let trained = some.table().iter().filter(|p| p.role == Role::Trainable);
    assert_eq!(moments[0].len(), trained.count());
}

/// Of the model of 23 million parameters: what scoring takes beside what it needs at least.
#[test]
fn scoring_takes_the_weights_and_a_forward_pass_and_no_more() {
    let model = gpu_tlm::bench::train::Model::Medium.config();
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let target = device.target();
    let table = ParameterTable::new(&model, &[], target.max_binding_words);
    let plan = ScorePlan::new(&model, &table, 8, target.clone());
    let parts = plan.device_bytes();
    let bytes = |wanted: &str| -> u64 {
        let own = parts.iter().filter(|(label, _)| label.starts_with(wanted));
        own.map(|(_, bytes)| bytes).sum()
    };
    assert_eq!(bytes("gradients") + bytes("moment"), 0);
    let total = bytes("");
    let least = table.count() as u64 * 4 + bytes("scratch");
    assert!(total * 10 < least * 13, "{total} of {least}");
    let train = StepPlan::new(&model, &train_config(8, 8), target);
    let training: u64 = train.device_bytes().iter().map(|(_, bytes)| bytes).sum();
    assert!(total * 3 < training, "{total} of {training} in training");
}
