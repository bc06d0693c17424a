//! AdamW, the gradient norm and clipping.

use gpu_tlm::kernels::adamw::{self as kernel, AdamwSettings, AdamwTensors};
use gpu_tlm::kernels::{grad_norm as norm_kernel, scale};
use pyo3::prelude::*;

use super::run;
use crate::arrays::{self, Array, Floats, Three};
use crate::errors::value_error;

/// Words that one tensor has at most, 64 MiB: within what every adapter binds.
const MOST_WORDS: usize = 16 << 20;

/// Parameter, gradient and both moments of some elements.
type Four = [Vec<f32>; 4];

/// One step over as many elements as fit a binding.
fn step(
    py: Python<'_>,
    four: &Four,
    settings: AdamwSettings,
    (lr, t): (f64, u64),
    clip: f32,
) -> PyResult<[Vec<f32>; 3]> {
    run(py, |run| {
        let [parameter, gradient, moment1, moment2] =
            [0, 1, 2, 3].map(|i| run.floats(1, four[i].len(), &four[i]));
        let words = kernel::step_words(&settings, lr, t);
        let words = run.floats(1, words.len(), &words);
        let norm_and_clip = run.floats(1, 2, &[1.0, clip]);
        let tensors = AdamwTensors {
            parameter,
            gradient,
            moment1,
            moment2,
        };
        kernel::update(&mut run.plan, tensors, words, norm_and_clip, &settings);
        [parameter, moment1, moment2]
    })
}

fn settings(betas: (f64, f64), eps: f64, weight_decay: f64) -> PyResult<AdamwSettings> {
    let (beta1, beta2) = betas;
    for (name, value, holds) in [
        ("betas[0]", beta1, (0.0..1.0).contains(&beta1)),
        ("betas[1]", beta2, (0.0..1.0).contains(&beta2)),
        ("eps", eps, eps.is_finite() && eps >= 0.0),
        ("weight_decay", weight_decay, weight_decay.is_finite()),
    ] {
        if !holds {
            return Err(value_error(format!(
                "{name} is {value}, which is out of range"
            )));
        }
    }
    Ok(AdamwSettings {
        beta1,
        beta2,
        eps,
        weight_decay,
    })
}

fn check_step(lr: f64, t: u64) -> PyResult<()> {
    if !lr.is_finite() {
        return Err(value_error(format!(
            "lr is {lr}, but it must be a finite number"
        )));
    }
    if t == 0 {
        return Err(value_error("t is 0, but steps are counted from 1"));
    }
    Ok(())
}

/// One step of AdamW.
///
/// Args:
///     parameter, gradient, moment1, moment2: float arrays of one shape.
///     lr: the learning rate.
///     t: the step, from 1.
///     clip: what the gradient is multiplied with first.
///
/// Returns:
///     new parameter, moment1 and moment2.
#[pyfunction]
#[pyo3(signature = (
    parameter, gradient, moment1, moment2, *, lr, t, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip=1.0
), text_signature = "(parameter, gradient, moment1, moment2, *, lr, t, betas=(0.9, 0.999), eps=1e-8, \
    weight_decay=0.01, clip=1.0)")]
#[allow(clippy::too_many_arguments, reason = "one a keyword")]
pub(crate) fn adamw<'py>(
    py: Python<'py>,
    parameter: &Bound<'py, PyAny>,
    gradient: &Bound<'py, PyAny>,
    moment1: &Bound<'py, PyAny>,
    moment2: &Bound<'py, PyAny>,
    lr: f64,
    t: u64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    clip: f32,
) -> PyResult<Three<'py>> {
    check_step(lr, t)?;
    let settings = settings(betas, eps, weight_decay)?;
    let parameter = arrays::floats_of("parameter", parameter, 0..=usize::MAX)?;
    let mut four: Four = Default::default();
    for (i, (name, value)) in [
        ("gradient", gradient),
        ("moment1", moment1),
        ("moment2", moment2),
    ]
    .into_iter()
    .enumerate()
    {
        let Floats { values, shape } = arrays::floats(name, value)?;
        arrays::expect_shape(name, &shape, &parameter.shape)?;
        four[i + 1] = values;
    }
    four[0] = parameter.values;
    let [parameter_now, first, second] = step(py, &four, settings, (lr, t), clip)?;
    let shape = &parameter.shape;
    Ok((
        arrays::array(py, parameter_now, shape)?,
        arrays::array(py, first, shape)?,
        arrays::array(py, second, shape)?,
    ))
}

/// Whether the name of a parameter has a pattern, as the keys of a config mean it.
#[pyfunction]
pub(crate) fn matches_pattern(name: &str, pattern: &str) -> bool {
    gpu_tlm::weights::matches_pattern(name, pattern)
}

/// A parameter and its moments as Python has them, and all four as they are.
struct InPlace<'py> {
    changed: [Array<'py>; 3],
    four: Four,
}

impl<'py> InPlace<'py> {
    fn of(
        name: &str,
        [parameter, gradient, first, second]: [&Bound<'py, PyAny>; 4],
    ) -> PyResult<Self> {
        let changed = [
            arrays::in_place(name, parameter)?,
            arrays::in_place(&format!("moment1 of {name}"), first)?,
            arrays::in_place(&format!("moment2 of {name}"), second)?,
        ];
        let gradient = arrays::floats(&format!("gradient of {name}"), gradient)?;
        let [parameter, first, second] = changed.each_ref().map(arrays::values);
        let four = [parameter?, gradient.values, first?, second?];
        let shape: Vec<usize> = changed[0].getattr("shape")?.extract()?;
        if four.iter().any(|own| own.len() != four[0].len()) || gradient.shape != shape {
            let found = arrays::shown(&gradient.shape);
            let text = format!(
                "the gradient of {name} has the shape {found}, and the parameter {}",
                arrays::shown(&shape)
            );
            return Err(value_error(text));
        }
        Ok(Self { changed, four })
    }
}

/// One step of AdamW over lists of float32 arrays, of which all but the gradients are changed in place: all, or none
/// where something is wrong. Each parameter has a weight_decay of its own.
#[pyfunction]
#[pyo3(signature = (parameters, gradients, moment1, moment2, weight_decay, *, lr, t, betas, eps))]
#[allow(clippy::too_many_arguments, reason = "one a keyword")]
pub(crate) fn adamw_in_place<'py>(
    py: Python<'py>,
    parameters: Vec<(String, Bound<'py, PyAny>)>,
    gradients: Vec<Bound<'py, PyAny>>,
    moment1: Vec<Bound<'py, PyAny>>,
    moment2: Vec<Bound<'py, PyAny>>,
    weight_decay: Vec<f64>,
    lr: f64,
    t: u64,
    betas: (f64, f64),
    eps: f64,
) -> PyResult<()> {
    check_step(lr, t)?;
    let mut all = Vec::new();
    let lists = gradients.iter().zip(&moment1).zip(&moment2);
    for ((name, parameter), ((gradient, first), second)) in parameters.iter().zip(lists) {
        all.push(InPlace::of(name, [parameter, gradient, first, second])?);
    }
    let mut decays = weight_decay.clone();
    decays.sort_by(f64::total_cmp);
    decays.dedup();
    let mut new: Vec<[Vec<f32>; 3]> = vec![Default::default(); all.len()];
    for decay in decays {
        let settings = settings(betas, eps, decay)?;
        let is_of = |&index: &usize| weight_decay.get(index) == Some(&decay);
        let own: Vec<usize> = (0..all.len()).filter(is_of).collect();
        let mut four: Four = Default::default();
        for &index in &own {
            for (joined, part) in four.iter_mut().zip(&all[index].four) {
                joined.extend_from_slice(part);
            }
        }
        let stepped = step_in_parts(py, &four, settings, (lr, t))?;
        let mut at = 0;
        for index in own {
            let range = at..at + all[index].four[0].len();
            at = range.end;
            new[index] = stepped
                .each_ref()
                .map(|values| values[range.clone()].to_vec());
        }
    }
    for (InPlace { changed, .. }, new) in all.iter().zip(&new) {
        for (array, values) in changed.iter().zip(new) {
            arrays::write(array, values)?;
        }
    }
    Ok(())
}

/// [`step`] over any number of elements.
fn step_in_parts(
    py: Python<'_>,
    four: &Four,
    settings: AdamwSettings,
    when: (f64, u64),
) -> PyResult<[Vec<f32>; 3]> {
    let mut new: [Vec<f32>; 3] = Default::default();
    for first in (0..four[0].len()).step_by(MOST_WORDS) {
        let last = four[0].len().min(first + MOST_WORDS);
        let part = four.each_ref().map(|all| all[first..last].to_vec());
        let stepped = step(py, &part, settings, when, 1.0)?;
        for (all, own) in new.iter_mut().zip(stepped) {
            all.extend_from_slice(&own);
        }
    }
    Ok(new)
}

/// Norm and clip factor.
fn norm_and_clip(py: Python<'_>, gradients: &[Floats], max_norm: f32) -> PyResult<[f32; 2]> {
    let [result] = run(py, |run| {
        let mut tensors = Vec::new();
        for gradient in gradients {
            for part in gradient.values.chunks(MOST_WORDS) {
                tensors.push(run.floats(1, part.len(), part));
            }
        }
        let result = run.plan.scratch("norm_and_clip", 1, 2);
        norm_kernel::norm_and_clip(&mut run.plan, &tensors, result, max_norm);
        [result]
    })?;
    Ok([result[0], result[1]])
}

fn check_max_norm(max_norm: f32) -> PyResult<()> {
    match max_norm.is_finite() && max_norm > 0.0 {
        true => Ok(()),
        false => Err(value_error(format!(
            "max_norm is {max_norm}, but it must be over 0"
        ))),
    }
}

/// The L2 norm over several arrays, and what they have to be multiplied with so that it is at most max_norm.
///
/// Args:
///     gradients: a list of float arrays.
///     max_norm: over 0.
#[pyfunction]
pub(crate) fn grad_norm(
    py: Python<'_>,
    gradients: Vec<Bound<'_, PyAny>>,
    max_norm: f32,
) -> PyResult<(f32, f32)> {
    check_max_norm(max_norm)?;
    let gradients = gradients
        .iter()
        .map(|g| arrays::floats_of("gradients", g, 0..=usize::MAX));
    let gradients = gradients.collect::<PyResult<Vec<_>>>()?;
    if gradients.is_empty() {
        return Err(value_error("there are no gradients"));
    }
    let [norm, clip] = norm_and_clip(py, &gradients, max_norm)?;
    Ok((norm, clip))
}

/// Multiplies float32 arrays in place so that their norm is at most max_norm; gives the norm before.
#[pyfunction]
pub(crate) fn clip_in_place(
    py: Python<'_>,
    gradients: Vec<(String, Bound<'_, PyAny>)>,
    max_norm: f32,
) -> PyResult<f32> {
    check_max_norm(max_norm)?;
    let arrays_in_place = gradients.iter().map(|(name, g)| arrays::in_place(name, g));
    let arrays_in_place = arrays_in_place.collect::<PyResult<Vec<_>>>()?;
    let mut all = Vec::new();
    for array in &arrays_in_place {
        let values = arrays::values(array)?;
        let shape = vec![values.len()];
        all.push(Floats { values, shape });
    }
    all.retain(|floats| !floats.values.is_empty());
    if all.is_empty() {
        return Ok(0.0);
    }
    let [norm, clip] = norm_and_clip(py, &all, max_norm)?;
    if clip >= 1.0 {
        return Ok(norm);
    }
    let mut new = Vec::with_capacity(arrays_in_place.len());
    for array in &arrays_in_place {
        let values = arrays::values(array)?;
        let mut scaled = Vec::with_capacity(values.len());
        for part in values.chunks(MOST_WORDS) {
            let [part] = run(py, |run| {
                let tensor = run.floats(1, part.len(), part);
                scale::scale(&mut run.plan, tensor, clip);
                [tensor]
            })?;
            scaled.extend_from_slice(&part);
        }
        new.push(scaled);
    }
    for (array, scaled) in arrays_in_place.iter().zip(&new) {
        arrays::write(array, scaled)?;
    }
    Ok(norm)
}
