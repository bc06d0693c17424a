//! Times the candidates for what a plan leaves open, once for each adapter and driver, and keeps the
//! answers in a file.

mod cache;
mod chip;
mod effort;
mod measure;
mod neighbours;
mod soundness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub use cache::Cache;
pub use chip::Chip;
pub use measure::measure;

use crate::gpu::executable::check_limits;
use crate::gpu::{AdapterClass, Choices, Device, GpuError, Identity, Plan, Question, Target};
use crate::kernels::FAMILIES;

/// What was found for a class of shapes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tuned {
    /// Name of the recipe that is taken.
    pub choice: String,
    /// The recipes that were timed, the one that is taken untimed first; none where the time that
    /// tuning may take was used up.
    pub candidates: Vec<Candidate>,
    /// The neighbouring class whose answer it is, where the class was not timed itself; not kept.
    #[serde(skip)]
    pub as_for: Option<String>,
}

impl Tuned {
    /// An answer of which no times are known.
    fn untimed(choice: String) -> Self {
        Self {
            choice,
            candidates: Vec::new(),
            as_for: None,
        }
    }

    /// The recipe that is taken untimed.
    fn default(&self) -> &str {
        self.candidates.first().map_or(&self.choice, |c| &c.name)
    }
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

/// What is known of an adapter.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// The adapter as a whole, where it is a GPU that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<Chip>,
    /// Its answers.
    pub findings: Findings,
}

/// The choices that a run was planned with, as its checkpoints keep them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The adapter, the driver, and this program's shaders.
    pub measured_on: MeasuredOn,
    /// Recipes by class; none in a run without tuning.
    pub choices: BTreeMap<String, String>,
    /// Workgroups that the adapter computes at once, where plans took that from a measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<usize>,
}

impl Record {
    /// The choices of `device`.
    pub fn of(device: &Device) -> Self {
        Self {
            measured_on: MeasuredOn::new(device),
            choices: device.choices().chosen().clone(),
            units: device.choices().units(),
        }
    }

    /// Whether a run here may take its choices; a warning says so where not.
    fn holds_for(&self, measured_on: &MeasuredOn) -> bool {
        let holds = self.measured_on == *measured_on;
        if !holds {
            tracing::warn!(
                "the checkpoint's kernels were chosen on {} with {}: other ones may be chosen \
                 here, which round differently",
                self.measured_on.device.adapter,
                self.measured_on.device.driver
            );
        }
        holds
    }

    fn findings(&self) -> Findings {
        let answer =
            |(class, choice): (&String, &String)| (class.clone(), Tuned::untimed(choice.clone()));
        self.choices.iter().map(answer).collect()
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
    /// For a run of seconds, which timing would take as well: a class that was not timed takes the answer
    /// of one that differs in numbers of rows alone, if there is one.
    pub short_run: bool,
}

/// A device whose plans take the choices, and where those come from.
pub struct Tuning {
    /// The device.
    pub device: Device,
    /// What is known of the adapter, and of the classes that were asked about.
    pub known: Known,
    /// Seconds that timing took.
    pub seconds: f64,
}

/// Finds out, or looks up, how the ops are computed best on `device` that `ask` asks about: it is given
/// the device, of which everything is known then but the answers.
///
/// # Errors
/// Those of `ask`, and when the device is lost; a candidate that fails is left out.
pub fn tune(
    device: &Device,
    options: &Options,
    ask: impl FnOnce(&Device) -> Result<BTreeSet<Question>, GpuError>,
) -> Result<Tuning, GpuError> {
    tune_by(&Cache::locate(), device, options, ask)
}

fn tune_by(
    cache: &Cache,
    device: &Device,
    options: &Options,
    ask: impl FnOnce(&Device) -> Result<BTreeSet<Question>, GpuError>,
) -> Result<Tuning, GpuError> {
    let started = Instant::now();
    if !options.forced.is_empty() {
        return untimed(device.with_choices(Choices::forced(&options.forced)), ask);
    }
    if options.off {
        return untimed(device.clone(), ask);
    }
    let measured_on = MeasuredOn::new(device);
    let resumed = options.resumed.as_ref();
    let resumed = resumed.filter(|record| record.holds_for(&measured_on));
    if resumed.is_some_and(|record| record.choices.is_empty()) {
        tracing::debug!("the run that goes on was not tuned");
        return untimed(device.clone(), ask);
    }
    let mut known = cache.load(&measured_on);
    if known.chip.is_none() && resumed.is_none() && device.class() == AdapterClass::Gpu {
        let found = Known {
            chip: Some(chip::measure(device)?),
            ..Known::default()
        };
        known.chip = cache.store(&measured_on, found).chip;
    }
    let units = match resumed {
        // What it was planned with, which may be nothing.
        Some(record) => record.units,
        None => known.chip.and_then(|chip| chip.units),
    };
    let with_units = device.with_choices(Choices::measured(BTreeMap::new(), units));
    let questions = ask(&with_units)?;
    if let Some(record) = resumed {
        known.findings.extend(record.findings());
    }
    let mut missing: Vec<Question> = missing(&questions, &known.findings);
    let mut of_neighbours = Findings::new();
    if options.short_run {
        missing.retain(|question| {
            let answer = neighbours::answer(&with_units.target(), question, &known.findings);
            let is_missing = answer.is_none();
            of_neighbours.extend(answer.map(|tuned| (question.class(), tuned)));
            is_missing
        });
    }
    if !missing.is_empty() {
        tracing::info!(
            "timing kernels for this adapter, once: {} classes of shapes",
            missing.len()
        );
        let found = Known {
            chip: None,
            findings: measure(&with_units, known.chip, &missing)?,
        };
        // What another process has found meanwhile stays, so that all runs compute alike.
        known
            .findings
            .extend(cache.store(&measured_on, found).findings);
        tracing::info!(
            "timed in {:.1} s, {}",
            started.elapsed().as_secs_f64(),
            cache.describe()
        );
    }
    known.findings.extend(of_neighbours);
    let asked: BTreeSet<String> = questions.iter().map(Question::class).collect();
    known.findings.retain(|class, _| asked.contains(class));
    for line in describe(&known).lines() {
        tracing::debug!("{line}");
    }
    let chosen = known.findings.iter();
    let chosen = chosen.map(|(c, tuned)| (c.clone(), tuned.choice.clone()));
    Ok(Tuning {
        device: device.with_choices(Choices::measured(chosen.collect(), units)),
        seconds: if missing.is_empty() {
            0.0
        } else {
            started.elapsed().as_secs_f64()
        },
        known,
    })
}

/// [`tune`] for what the plan leaves open that `build` makes. A plan that does not fit the device is
/// refused before kernels are timed.
///
/// # Errors
/// When the plan is over a limit of the device, or the device is lost.
pub fn tune_plan(
    device: &Device,
    options: &Options,
    build: impl FnOnce(Target) -> Plan,
) -> Result<Tuning, GpuError> {
    tune(device, options, |device| {
        let plan = build(device.target());
        check_limits(&plan, device)?;
        Ok(plan.questions().clone())
    })
}

/// What is known of `device` without timing anything.
pub fn look_up(device: &Device) -> Known {
    Cache::locate().load(&MeasuredOn::new(device))
}

fn untimed(
    device: Device,
    ask: impl FnOnce(&Device) -> Result<BTreeSet<Question>, GpuError>,
) -> Result<Tuning, GpuError> {
    ask(&device)?;
    Ok(Tuning {
        device,
        known: Known::default(),
        seconds: 0.0,
    })
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

/// The adapter, where it was measured, and a line a class: what is taken, and the time of each candidate.
pub fn describe(known: &Known) -> String {
    let chip = known.chip.map(|chip| format!("the adapter: {chip}\n"));
    let line = |(class, tuned): (&String, &Tuned)| {
        let times: Vec<String> = tuned
            .candidates
            .iter()
            .map(|c| format!("{} {:.3} ms", c.name, c.ms))
            .collect();
        let times = match &tuned.as_for {
            Some(class) => format!("as for {class}"),
            None if times.is_empty() => "not timed".to_owned(),
            None => times.join(", "),
        };
        format!("{class} -> {} ({times})\n", tuned.choice)
    };
    let classes = known.findings.iter().map(line);
    chip.into_iter().chain(classes).collect()
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
    use crate::gpu::{DeviceOptions, ENOUGH_WORKGROUPS};

    fn device(class: AdapterClass) -> Device {
        let options = DeviceOptions {
            class: Some(class),
            ..DeviceOptions::default()
        };
        Device::open(&options).unwrap()
    }

    /// What plans take for the number of workgroups that keep a GPU busy, when they ask and afterwards.
    fn enough(cache: &Cache, device: &Device, options: &Options) -> usize {
        let mut asked_with = 0;
        let tuned = tune_by(cache, device, options, |device| {
            asked_with = device.target().enough_workgroups();
            Ok(BTreeSet::new())
        });
        let tuned = tuned.unwrap().device;
        assert_eq!(tuned.target().enough_workgroups(), asked_with);
        assert_eq!(
            Record::of(&tuned)
                .units
                .map_or(ENOUGH_WORKGROUPS, |u| 2 * u),
            asked_with
        );
        asked_with
    }

    #[test]
    fn plans_take_the_measured_size_of_a_gpu_and_a_resumed_one_that_of_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        let gpu = device(AdapterClass::Gpu);
        let known = Known {
            chip: Some(Chip {
                units: Some(33),
                gflops: 1.0,
            }),
            ..Known::default()
        };
        cache.store(&MeasuredOn::new(&gpu), known);
        let options = Options::default();
        assert_eq!(enough(&cache, &gpu, &options), 66);
        let of_record = |units: Option<usize>, choices: &[&str]| {
            let choice = |class: &&str| ((*class).to_owned(), "matmul.tiled split 2".to_owned());
            let record = Record {
                measured_on: MeasuredOn::new(&gpu),
                choices: choices.iter().map(choice).collect(),
                units,
            };
            let resumed = Some(record);
            Options {
                resumed,
                ..Options::default()
            }
        };
        let class = ["matmul nt 1x1x1"];
        for (options, want) in [
            (of_record(Some(7), &class), 14),
            (of_record(None, &class), ENOUGH_WORKGROUPS),
            (of_record(None, &[]), ENOUGH_WORKGROUPS),
            (
                Options {
                    off: true,
                    ..Options::default()
                },
                ENOUGH_WORKGROUPS,
            ),
            (
                Options {
                    forced: vec!["matmul.tiled".to_owned()],
                    ..Options::default()
                },
                ENOUGH_WORKGROUPS,
            ),
        ] {
            assert_eq!(enough(&cache, &gpu, &options), want, "{options:?}");
        }
    }

    #[test]
    fn a_gpu_is_measured_once_and_a_software_adapter_never() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        let [gpu, software] = [AdapterClass::Gpu, AdapterClass::Software].map(device);
        let options = Options::default();
        enough(&cache, &gpu, &options);
        let known = cache.load(&MeasuredOn::new(&gpu));
        assert!(known.chip.is_some());
        enough(&cache, &gpu, &options);
        assert_eq!(cache.load(&MeasuredOn::new(&gpu)), known);
        assert_eq!(enough(&cache, &software, &options), ENOUGH_WORKGROUPS);
        assert_eq!(cache.load(&MeasuredOn::new(&software)), Known::default());
    }

    #[test]
    fn a_record_of_an_earlier_version_is_one_without_a_measured_size() {
        let record = Record::of(&device(AdapterClass::Gpu));
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains("units"), "{text}");
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read, record);
    }

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
        let tuned = Tuned::untimed(String::new());
        let known = [("matmul nt 1024x512x128".to_owned(), tuned)].into();
        assert_eq!(
            missing(&questions, &known),
            [[1024, 344, 256], [1, 344, 128]].map(of)
        );
    }
}
