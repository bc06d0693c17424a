//! Rows of the gradient norm, the clip factor and AdamW.

use super::Table;
use crate::kernels::adamw::{self, AdamwSettings, AdamwTensors};
use crate::kernels::grad_norm;
use crate::reference;

pub(super) fn rows(table: &mut Table) {
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
