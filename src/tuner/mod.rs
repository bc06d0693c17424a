//! Times the candidates for what a plan leaves open, once for each adapter and driver, and keeps the
//! answers in a file.

mod cache;
mod measure;
mod soundness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub use cache::Cache;
pub use measure::measure;

use crate::gpu::executable::check_limits;
use crate::gpu::{Choices, Device, GpuError, Identity, Plan, Question};
use crate::kernels::FAMILIES;

/// What was found for a class of shapes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tuned {
    /// Name of the recipe that is taken.
    pub choice: String,
    /// The recipes that were timed, the one that is taken untimed first; none where the time that
    /// tuning may take was used up.
    pub candidates: Vec<Candidate>,
}

/// A recipe and its time.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// Name of the recipe.
    pub name: String,
    /// Milliseconds of an op with the copies that it needs: the shortest of a few, or the only
    /// one where it was far behind.
    pub ms: f64,
}

/// What was found, by class.
pub type Findings = BTreeMap<String, Tuned>;

/// The choices that a run was planned with, as its checkpoints keep them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The adapter, the driver, and this program's shaders.
    pub measured_on: MeasuredOn,
    /// Recipes by class; none in a run without tuning.
    pub choices: BTreeMap<String, String>,
}

impl Record {
    /// The choices of `device`.
    pub fn of(device: &Device) -> Self {
        Self {
            measured_on: MeasuredOn::new(device),
            choices: device.choices().chosen().clone(),
        }
    }
}

/// What a measurement holds for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MeasuredOn {
    /// The device.
    #[serde(flatten)]
    pub device: Identity,
    /// Version of the program, and a hash of the shaders that are timed.
    pub program: String,
}

impl MeasuredOn {
    /// This program on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.identity(),
            program: cache::program(),
        }
    }
}

/// How choices are come by.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take what an adapter's class suggests, without looking at the cache.
    pub off: bool,
    /// Variants that take every op that they can compute; nothing is timed then.
    pub forced: Vec<String>,
    /// The choices of the run that goes on, if any.
    pub resumed: Option<Record>,
}

/// A device whose plans take the choices, and where those come from.
pub struct Tuning {
    /// The device.
    pub device: Device,
    /// What is known of the classes that were asked about.
    pub findings: Findings,
    /// Seconds that timing took.
    pub seconds: f64,
}

/// Finds out, or looks up, how the ops of `questions` are computed best on `device`.
///
/// # Errors
/// When the device is lost; a candidate that fails is left out.
pub fn tune(
    device: &Device,
    options: &Options,
    questions: &BTreeSet<Question>,
) -> Result<Tuning, GpuError> {
    let started = Instant::now();
    if !options.forced.is_empty() {
        return Ok(untimed(
            device.with_choices(Choices::forced(&options.forced)),
        ));
    }
    if options.off {
        return Ok(untimed(device.clone()));
    }
    let measured_on = MeasuredOn::new(device);
    let mut known = Findings::new();
    if let Some(record) = &options.resumed {
        if record.measured_on == measured_on {
            if record.choices.is_empty() {
                tracing::debug!("the run that goes on was not tuned");
                return Ok(untimed(device.clone()));
            }
            known.extend(record.choices.iter().map(|(class, choice)| {
                let choice = choice.clone();
                (
                    class.clone(),
                    Tuned {
                        choice,
                        candidates: Vec::new(),
                    },
                )
            }));
        } else {
            tracing::warn!(
                "the checkpoint's kernels were chosen on {} with {}: other ones may be chosen \
                 here, which round differently",
                record.measured_on.device.adapter,
                record.measured_on.device.driver
            );
        }
    }
    let cache = Cache::locate();
    let resumed: BTreeSet<String> = known.keys().cloned().collect();
    for (class, tuned) in cache.load(&measured_on) {
        known.entry(class).or_insert(tuned);
    }
    let missing: Vec<Question> = missing(questions, &known);
    if !missing.is_empty() {
        tracing::info!(
            "timing kernels for this adapter, once: {} classes of shapes",
            missing.len()
        );
        let found = measure(device, &missing)?;
        // What another process has found meanwhile stays, so that all runs compute alike.
        let kept = cache.store(&measured_on, found);
        known.extend(
            kept.into_iter()
                .filter(|(class, _)| !resumed.contains(class)),
        );
        tracing::info!(
            "timed in {:.1} s, {}",
            started.elapsed().as_secs_f64(),
            cache.describe()
        );
    }
    let asked: BTreeSet<String> = questions.iter().map(Question::class).collect();
    known.retain(|class, _| asked.contains(class));
    for line in describe(&known).lines() {
        tracing::debug!("{line}");
    }
    let chosen = known
        .iter()
        .map(|(c, tuned)| (c.clone(), tuned.choice.clone()));
    Ok(Tuning {
        device: device.with_choices(Choices::measured(chosen.collect())),
        seconds: if missing.is_empty() {
            0.0
        } else {
            started.elapsed().as_secs_f64()
        },
        findings: known,
    })
}

/// [`tune`] for what `plan` leaves open. A plan that does not fit the device is refused before anything
/// is timed.
///
/// # Errors
/// When the plan is over a limit of the device, or the device is lost.
pub fn tune_plan(device: &Device, options: &Options, plan: &Plan) -> Result<Tuning, GpuError> {
    check_limits(plan, device)?;
    tune(device, options, plan.questions())
}

/// What is known of `device` without timing anything.
pub fn look_up(device: &Device) -> Findings {
    Cache::locate().load(&MeasuredOn::new(device))
}

fn untimed(device: Device) -> Tuning {
    Tuning {
        device,
        findings: Findings::new(),
        seconds: 0.0,
    }
}

/// The largest question of each class that is not known, the most work first.
fn missing(questions: &BTreeSet<Question>, known: &Findings) -> Vec<Question> {
    let work = |q: &Question| FAMILIES.iter().find_map(|f| f.flops(q)).unwrap_or(0);
    let mut largest: BTreeMap<String, Question> = BTreeMap::new();
    for question in questions {
        let class = question.class();
        if known.contains_key(&class) {
            continue;
        }
        let slot = largest.entry(class).or_insert_with(|| question.clone());
        if work(question) > work(slot) {
            *slot = question.clone();
        }
    }
    let mut missing: Vec<Question> = largest.into_values().collect();
    missing.sort_by_key(|q| std::cmp::Reverse(work(q)));
    missing
}

/// A line a class: what is taken, and the time of each candidate.
pub fn describe(findings: &Findings) -> String {
    let line = |(class, tuned): (&String, &Tuned)| {
        let times: Vec<String> = tuned
            .candidates
            .iter()
            .map(|c| format!("{} {:.3} ms", c.name, c.ms))
            .collect();
        let times = if times.is_empty() {
            "not timed".to_owned()
        } else {
            times.join(", ")
        };
        format!("{class} -> {} ({times})\n", tuned.choice)
    };
    findings.iter().map(line).collect()
}

/// The findings as a list for `--json`.
pub fn to_json(findings: &Findings) -> serde_json::Value {
    let entry = |(class, tuned): (&String, &Tuned)| {
        serde_json::json!({
            "class": class,
            "choice": tuned.choice,
            "candidates": tuned.candidates,
        })
    };
    findings.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_shape_stands_for_its_class_and_the_dearest_class_comes_first() {
        let kind = "matmul nt";
        let of = |sizes: [usize; 3]| Question {
            kind,
            sizes: sizes.to_vec(),
        };
        let questions: BTreeSet<_> = [
            [1024, 300, 128],
            [1024, 344, 128],
            [1024, 344, 256],
            [1, 344, 128],
        ]
        .map(of)
        .into();
        let found = missing(&questions, &Findings::new());
        assert_eq!(
            found,
            [[1024, 344, 256], [1024, 344, 128], [1, 344, 128]].map(of)
        );
        let tuned = Tuned {
            choice: String::new(),
            candidates: Vec::new(),
        };
        let known = [("matmul nt 1024x512x128".to_owned(), tuned)].into();
        assert_eq!(
            missing(&questions, &known),
            [[1024, 344, 256], [1, 344, 128]].map(of)
        );
    }
}
