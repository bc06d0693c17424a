//! Rows of the gradient norm, the clip factor and AdamW.

use super::Table;
use crate::kernels::adamw::{self, AdamwSettings, AdamwTensors};
use crate::kernels::grad_norm;
use crate::kernels::loss_scale::{self, GROWTH_INTERVAL, LARGEST_SCALE, LossScale, SMALLEST_SCALE};
use crate::reference;

pub(super) fn rows(table: &mut Table) {
    loss_scale_rows(table);
    table.add_once(&adamw::UPDATE, "65, skipped", skipped_row);
    // Lengths around a workgroup and a block; two tensors, as when parameters fill two buffers.
    for lens in [
        vec![1],
        vec![63],
        vec![65, 64],
        vec![1023],
        vec![1025, 7],
        vec![70_000, 3000],
    ] {
        // A norm near 1e-6 makes the constant in the clip factor count.
        for (scale, max_norm) in [(1.0, 0.5), (1.0, 1e6), (1e-6, 1e-7)] {
            let shape = format!("{lens:?}, scale {scale}, max_norm {max_norm}");
            for kernel in [&grad_norm::SQUARES, &grad_norm::CLIP] {
                let lens = lens.clone();
                table.add_once(kernel, &shape, move |case| {
                    let gradients: Vec<_> =
                        lens.iter().map(|&len| case.random(1, len, scale)).collect();
                    let tensors: Vec<_> = gradients.iter().map(|g| g.tensor).collect();
                    let result = case.plan.scratch("norm_and_clip", 1, 2);
                    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
                    grad_norm::norm_and_clip(&mut case.plan, &tensors, result, max_norm as f32);
                    let all: Vec<f64> = gradients.into_iter().flat_map(|g| g.values).collect();
                    let norm = reference::grad_norm::norm(&all);
                    let clip = reference::grad_norm::clip_factor(norm, max_norm);
                    case.expect("norm", result.slice(0, 1), vec![norm]);
                    case.expect("clip factor", result.slice(1, 1), vec![clip]);
                });
            }
        }
    }
    for len in [1, 63, 65, 1030] {
        for (t, clip) in [(1, 1.0), (1, 0.25), (7, 1.0), (3000, 0.5)] {
            table.add_once(
                &adamw::UPDATE,
                format!("{len}, step {t}, clip {clip}"),
                move |case| {
                    adamw_row(case, len, t, clip);
                },
            );
        }
    }
}

/// States before a step, its gradients' scale, and one gradient that is put among them.
fn loss_scale_rows(table: &mut Table) {
    let fresh = LossScale::default();
    let corrections = [0.1, 0.05];
    let running = LossScale {
        scale: 1024.0,
        good_steps: 17,
        skipped_steps: 3,
        corrections,
    };
    let grows = LossScale {
        good_steps: GROWTH_INTERVAL - 1,
        ..running
    };
    let largest = LossScale {
        scale: LARGEST_SCALE,
        ..grows
    };
    let smallest = LossScale {
        scale: SMALLEST_SCALE,
        ..running
    };
    for (name, before, odd) in [
        ("first step", fresh, 1.0),
        ("any step", running, 1.0),
        ("the scale grows", grows, 1.0),
        ("the scale is the largest", largest, 1.0),
        ("an infinite gradient", running, f64::INFINITY),
        ("a gradient that is no number", fresh, f64::NAN),
        ("squares that overflow", grows, 1e30),
        ("infinite at the smallest scale", smallest, f64::INFINITY),
    ] {
        for max_norm in [0.5, 1e6] {
            let shape = format!("{name}, max_norm {max_norm}");
            table.add_once(&loss_scale::UPDATE, shape, move |case| {
                loss_scale_row(case, before, odd, max_norm);
            });
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
fn loss_scale_row(case: &mut super::Case, before: LossScale, odd: f64, max_norm: f64) {
    let scale = f64::from(before.scale);
    let mut values = case.random(1, 5000, scale).values;
    values[4321] = odd * scale;
    let gradient = case.floats(1, values.len(), values);
    let step = case.floats(1, adamw::STEP_WORDS, vec![1e-3, 0.0, 0.0]);
    let result = case.plan.scratch("norm_and_clip", 1, 2);
    let state = case.words(&before.to_words());
    let settings = AdamwSettings {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let squares = grad_norm::squares(&mut case.plan, &[gradient.tensor]);
    let inputs = (squares, step.tensor);
    let max = max_norm as f32;
    let state = loss_scale::State(state);
    let applied = loss_scale::update(&mut case.plan, inputs, result, state, max, &settings);
    let rule = reference::loss_scale::LossScaleRule {
        growth_interval: GROWTH_INTERVAL,
        smallest: f64::from(SMALLEST_SCALE),
        largest: f64::from(LARGEST_SCALE),
        betas: [settings.beta1, settings.beta2],
    };
    let given = reference::loss_scale::LossScaleState {
        scale,
        good_steps: before.good_steps,
        skipped_steps: before.skipped_steps,
        corrections: before.corrections.map(f64::from),
    };
    let largest = gradient.values.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    // Squares of more than 1e19 are no f32, and NaN is not the maximum of anything.
    let scaled = if largest > 1e19 || odd.is_nan() {
        f64::INFINITY
    } else {
        reference::grad_norm::norm(&gradient.values)
    };
    let want = reference::loss_scale::update(given, scaled, &rule);
    let word = |at| state.0.slice(at, 1);
    case.expect("scale", word(0), vec![want.scale]);
    case.expect_words("steps since then", word(1), vec![want.good_steps]);
    case.expect_words("skipped steps", word(2), vec![want.skipped_steps]);
    case.expect(
        "corrections",
        state.0.slice(3, 2),
        want.corrections.to_vec(),
    );
    if !scaled.is_finite() {
        case.expect("clip factor", result.slice(1, 1), vec![-1.0]);
        return;
    }
    let norm = scaled / scale;
    let clip = reference::grad_norm::clip_factor(norm, max_norm) / scale;
    case.expect("norm", result.slice(0, 1), vec![norm]);
    case.expect("clip factor", result.slice(1, 1), vec![clip]);
    let [first, second] = want.corrections;
    let words = vec![1e-3, first, second.sqrt()];
    case.expect("applied step", applied, words);
}

/// A factor below zero leaves everything as it is.
fn skipped_row(case: &mut super::Case) {
    let [parameter, moment1, moment2] = [(); 3].map(|()| case.random(1, 65, 1.0));
    let gradient = case.floats(1, 65, vec![f64::NAN; 65]);
    let step = case.floats(1, adamw::STEP_WORDS, vec![1e-3, 0.1, 0.03]);
    let norm_and_clip = case.floats(1, 2, vec![f64::NAN, -1.0]);
    let tensors = AdamwTensors {
        parameter: parameter.tensor,
        gradient: gradient.tensor,
        moment1: moment1.tensor,
        moment2: moment2.tensor,
    };
    let settings = AdamwSettings {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let (step, factor) = (step.tensor, norm_and_clip.tensor);
    adamw::update(&mut case.plan, tensors, step, factor, &settings);
    case.expect_exactly("parameter", parameter.tensor, &parameter.values);
    case.expect_exactly("moment1", moment1.tensor, &moment1.values);
    case.expect_exactly("moment2", moment2.tensor, &moment2.values);
}

fn adamw_row(case: &mut super::Case, len: usize, t: u32, clip: f64) {
    let settings = AdamwSettings {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let learning_rate = 1e-2;
    let parameter = case.random(1, len, 1.0);
    let gradient = case.random(1, len, 1e-2);
    let moment1 = case.random(1, len, 1e-2);
    let squares: Vec<f64> = case
        .random(1, len, 1e-2)
        .values
        .iter()
        .map(|v| v * v)
        .collect();
    let moment2 = case.floats(1, len, squares);
    let words = adamw::step_words(&settings, learning_rate, t.into()).map(f64::from);
    let step = case.floats(1, adamw::STEP_WORDS, words.to_vec());
    let norm_and_clip = case.floats(1, 2, vec![1.0, clip]);
    let tensors = AdamwTensors {
        parameter: parameter.tensor,
        gradient: gradient.tensor,
        moment1: moment1.tensor,
        moment2: moment2.tensor,
    };
    adamw::update(
        &mut case.plan,
        tensors,
        step.tensor,
        norm_and_clip.tensor,
        &settings,
    );
    let clipped: Vec<f64> = gradient.values.iter().map(|g| g * clip).collect();
    let (mut p, mut m, mut v) = (parameter.values, moment1.values, moment2.values);
    let reference_step = reference::adamw::AdamwStep {
        learning_rate,
        beta1: settings.beta1,
        beta2: settings.beta2,
        eps: settings.eps,
        weight_decay: settings.weight_decay,
        step: t,
    };
    reference::adamw::update(&mut p, &clipped, &mut m, &mut v, &reference_step);
    case.expect("parameter", parameter.tensor, p);
    case.expect("moment1", moment1.tensor, m);
    case.expect("moment2", moment2.tensor, v);
}
