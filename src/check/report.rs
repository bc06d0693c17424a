//! Runs rows and keeps what became of each: passed, failed, or skipped with a reason.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{Outcome, Row, class_name, step};
use crate::config::{ModelConfig, Precision};
use crate::gpu::{AdapterClass, Choices, Device, GpuError};
use crate::kernels::{ALL, FAMILIES, expect_forced, family_of, takes_halves, variants};
use crate::train::step_plan::StepPlan;

/// What became of one row.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RowReport {
    /// The kernel, or [`step::NAME`].
    pub kernel: String,
    /// Its variant.
    pub variant: String,
    /// The class of adapter whose sizes were run: `gpu`, `software`, or `any`.
    pub class: &'static str,
    /// The shape, or the tensor of a step.
    pub shape: String,
    /// Worst error, relative to the tolerance's scale; `None` where nothing could be compared.
    pub worst: Option<f64>,
    /// What the error may be.
    pub tolerance: f64,
    /// Whether the row is right.
    pub ok: bool,
    /// What is wrong.
    pub failure: Option<String>,
    /// Labels of the kernels that were dispatched; not listed for a step, which runs dozens.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub kernels: BTreeSet<String>,
}

/// A row that cannot run: on this adapter, or for this kernel on any.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Skipped {
    /// The kernel.
    pub kernel: String,
    /// Its variant.
    pub variant: String,
    /// The shape.
    pub shape: String,
    /// What stands in the way: the adapter's limit or feature, or the kernel's own need.
    pub reason: String,
    /// Which of these.
    pub by: SkippedBy,
}

/// Whether a row could run on another adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SkippedBy {
    /// The adapter lacks something.
    Adapter,
    /// The kernel cannot run the shape on any.
    Shape,
}

/// Everything that was checked, in the order of the table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The rows that ran.
    pub rows: Vec<RowReport>,
    /// The rows that did not.
    pub skipped: Vec<Skipped>,
}

/// Some rows were wrong.
#[derive(Debug, thiserror::Error)]
#[error(
    "{failed} of {total} checks failed, in {kernels}; the results of this adapter cannot be \
     trusted: update its driver or choose another, and report the last line above"
)]
pub struct CheckFailed {
    failed: usize,
    total: usize,
    kernels: String,
}

impl RowReport {
    /// How near its tolerance its error is: 1 there, and infinite where nothing could be compared.
    pub fn nearness(&self) -> f64 {
        self.worst.map_or(f64::INFINITY, |worst| {
            worst / self.tolerance.max(f64::MIN_POSITIVE)
        })
    }
}

impl Report {
    /// Number of rows that were right.
    pub fn passed(&self) -> usize {
        self.rows.iter().filter(|row| row.ok).count()
    }

    /// How many rows ran, by op and by kernel: each row's kernel is the one that was dispatched.
    pub fn by_op(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut ops = BTreeMap::new();
        for row in &self.rows {
            let kernel = format!("{}.{}", row.kernel, row.variant);
            let of: &mut BTreeMap<_, _> = ops.entry(op_of(&row.kernel)).or_default();
            *of.entry(kernel).or_default() += 1;
        }
        ops
    }

    /// The rows of each kernel, in the order of the table.
    pub fn by_kernel(&self) -> Vec<Vec<&RowReport>> {
        let mut groups: Vec<Vec<&RowReport>> = Vec::new();
        for row in &self.rows {
            let same = |group: &&mut Vec<&RowReport>| {
                (&group[0].kernel, &group[0].variant) == (&row.kernel, &row.variant)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
        groups
    }

    /// The rows that were wrong.
    pub fn failures(&self) -> impl Iterator<Item = &RowReport> {
        self.rows.iter().filter(|row| !row.ok)
    }

    /// The result of the whole.
    ///
    /// # Errors
    /// When a row was wrong.
    pub fn verdict(&self) -> Result<(), CheckFailed> {
        let kernels: BTreeSet<&str> = self.failures().map(|row| row.kernel.as_str()).collect();
        if kernels.is_empty() {
            return Ok(());
        }
        Err(CheckFailed {
            failed: self.failures().count(),
            total: self.rows.len(),
            kernels: kernels.into_iter().collect::<Vec<_>>().join(", "),
        })
    }

    fn add(&mut self, row: &Row, result: Result<Outcome, GpuError>) {
        let (kernel, variant) = (row.kernel.name.to_owned(), row.kernel.variant.to_owned());
        let shape = row.shape.clone();
        let report = |worst, tolerance, failure: Option<String>, kernels| RowReport {
            kernel: kernel.clone(),
            variant: variant.clone(),
            class: class_name(row.class),
            shape: shape.clone(),
            worst,
            tolerance,
            ok: failure.is_none(),
            failure,
            kernels,
        };
        match result {
            Ok(o) => self
                .rows
                .push(report(Some(o.worst), o.tolerance, o.failure, o.kernels)),
            Err(error) if error.is_unsupported() => self.skipped.push(Skipped {
                kernel,
                variant,
                shape,
                reason: match error {
                    GpuError::Unsupported { reason, .. } => reason,
                    other => other.to_string(),
                },
                by: match row.obstacle() {
                    Some(_) => SkippedBy::Shape,
                    None => SkippedBy::Adapter,
                },
            }),
            Err(error) => {
                let failure = Some(error.to_string());
                self.rows.push(report(None, 0.0, failure, BTreeSet::new()));
            }
        }
    }
}

/// The op that a kernel's name belongs to: its family's, if it has one.
fn op_of(kernel: &str) -> String {
    let known = ALL.iter().find(|known| known.name == kernel);
    let family = known.and_then(|known| FAMILIES.into_iter().find(|f| f.has(known)));
    family.map_or_else(|| kernel.to_owned(), |family| family.op().to_owned())
}

/// Runs `rows` side by side, and then a whole step of a tiny model where `with_step`.
///
/// A device that fails takes the rows beside it down, so these run again alone on a device of
/// `reopen`, and only what fails there is blamed. `done` is called after each row.
///
/// # Errors
/// When no device can be opened any more.
pub fn run(
    device: &Device,
    rows: &[Row],
    with_step: bool,
    reopen: impl Fn() -> Result<Device, GpuError>,
    done: impl Fn() + Sync,
) -> Result<Report, GpuError> {
    let devices = one_a_core(device, &reopen)?;
    let run = |row: &Row| {
        let own = rayon::current_thread_index().unwrap_or(0) % devices.len();
        let result = row.run(&devices[own]);
        done();
        result
    };
    let mut results: Vec<_> = rows.par_iter().map(run).collect();
    let mut spare = None;
    rerun_alone(&mut results, |index| {
        let device = match spare.take() {
            Some(device) => device,
            None => reopen()?,
        };
        let result = rows[index].run(&device);
        // A device that failed once fails for ever.
        spare = Some(device).filter(|_| !is_device_failure(&result));
        Ok(result)
    })?;
    let mut report = Report::default();
    for (row, result) in rows.iter().zip(results) {
        report.add(row, result);
    }
    if with_step {
        let choices = device.choices().clone();
        let device = spare.unwrap_or_else(|| device.clone());
        let device = device.with_choices(choices);
        for class in [AdapterClass::Gpu, AdapterClass::Software] {
            add_step(&mut report, &device.with_class(class));
        }
        done();
    }
    Ok(report)
}

/// The devices that rows run on side by side. On a software adapter most of the time is the shader
/// compiler's, which works on one core for each device; a GPU takes the rows of all cores at once.
///
/// # Errors
/// When another device cannot be opened.
fn one_a_core(
    device: &Device,
    reopen: impl Fn() -> Result<Device, GpuError>,
) -> Result<Vec<Device>, GpuError> {
    let further = match device.class() {
        AdapterClass::Gpu => 0,
        AdapterClass::Software => rayon::current_num_threads() - 1,
    };
    std::iter::once(Ok(device.clone()))
        .chain((0..further).map(|_| reopen()))
        .collect()
}

fn is_device_failure<T>(result: &Result<T, GpuError>) -> bool {
    matches!(result, Err(GpuError::Device(_)))
}

/// Replaces each failure of the device by what happens when the row runs alone.
fn rerun_alone<T>(
    results: &mut [Result<T, GpuError>],
    mut alone: impl FnMut(usize) -> Result<Result<T, GpuError>, GpuError>,
) -> Result<(), GpuError> {
    for index in 0..results.len() {
        if is_device_failure(&results[index]) {
            results[index] = alone(index)?;
        }
    }
    Ok(())
}

fn add_step(report: &mut Report, device: &Device) {
    let class = class_name(Some(device.class()));
    let [untied, tied] = [false, true].map(|tie| step::tiny_model(16, tie));
    let parts = step::in_parts(device);
    let in_halves = |model: &ModelConfig| ModelConfig {
        precision: Precision::Mixed,
        ..model.clone()
    };
    let [mixed, mixed_tied, mixed_parts] = [&untied, &tied, &parts.1].map(in_halves);
    let mut runs = vec![
        ("untied", device.clone(), &untied),
        ("tied", device.clone(), &tied),
        ("in parts", parts.0.clone(), &parts.1),
        ("mixed", device.clone(), &mixed),
        ("mixed, tied", device.clone(), &mixed_tied),
        ("mixed, in parts", parts.0, &mixed_parts),
    ];
    // A row's product is in no training step.
    let variants = variants();
    for name in variants.iter().filter(|name| *name != "matmul.row") {
        let family = family_of(name).expect("a variant is of a family");
        match family.obstacle(&device.target(), name) {
            Some(reason) => report.skipped.push(Skipped {
                kernel: step::NAME.to_owned(),
                variant: name.to_owned(),
                shape: "all".to_owned(),
                reason,
                by: SkippedBy::Adapter,
            }),
            None => {
                let choices = Choices::forced(std::slice::from_ref(name));
                let model = if takes_halves(name) { &mixed } else { &untied };
                runs.push((name, device.with_choices(choices), model));
            }
        }
    }
    for (variant, device, model) in runs {
        let row = |shape: String, worst, tolerance, failure: Option<String>| RowReport {
            kernel: step::NAME.to_owned(),
            variant: variant.to_owned(),
            class,
            shape,
            worst,
            tolerance,
            ok: failure.is_none(),
            failure,
            kernels: BTreeSet::new(),
        };
        let train = step::train_config(4, 2);
        if variants.iter().any(|name| name == variant) {
            let plan = StepPlan::new(model, &train, device.target()).plan;
            if let Err(other) = expect_forced(&plan, variant) {
                report
                    .rows
                    .push(row("kernels".to_owned(), None, 0.0, Some(other)));
            }
        }
        match step::check(&device, model, &train) {
            Ok(tensors) => {
                let rows = tensors
                    .into_iter()
                    .map(|t| row(t.name, Some(t.worst), t.tolerance, t.failure));
                report.rows.extend(rows);
            }
            Err(e) => {
                let failure = Some(e.to_string());
                report.rows.push(row("all".to_owned(), None, 0.0, failure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failure: Option<&str>) -> Outcome {
        Outcome {
            worst: 0.5,
            tolerance: 1e-5,
            failure: failure.map(str::to_owned),
            kernels: BTreeSet::new(),
        }
    }

    #[test]
    fn a_wrong_row_fails_the_whole_and_a_limit_does_not() {
        let rows = crate::check::all_rows();
        let mut report = Report::default();
        report.add(&rows[0], Ok(outcome(None)));
        let limit = GpuError::OverLimit {
            label: "weight".to_owned(),
            size_bytes: 2,
            limit_bytes: 1,
            limit: "max_buffer_size",
        };
        report.add(&rows[1], Err(limit));
        assert!(report.verdict().is_ok());
        assert_eq!((report.passed(), report.skipped.len()), (1, 1));
        assert!(report.skipped[0].reason.contains("max_buffer_size"));
        report.add(&rows[2], Ok(outcome(Some("output[3] is 1 where ..."))));
        let lost = GpuError::Device("lost".to_owned());
        report.add(&rows[3], Err(lost));
        let message = report.verdict().unwrap_err().to_string();
        assert!(message.contains("2 of 3"), "{message}");
        for row in &rows[2..4] {
            assert!(message.contains(row.kernel.name), "{message}");
        }
    }

    #[test]
    fn only_the_row_that_loses_the_device_alone_is_blamed() {
        let lost = || Err(GpuError::Device("lost".to_owned()));
        let mut results = vec![Ok(1), lost(), lost(), lost()];
        let mut order = Vec::new();
        rerun_alone(&mut results, |index| {
            order.push(index);
            Ok(if index == 2 { lost() } else { Ok(1) })
        })
        .unwrap();
        assert_eq!(order, [1, 2, 3]);
        let blamed: Vec<bool> = results.iter().map(is_device_failure).collect();
        assert_eq!(blamed, [false, false, true, false]);
    }
}
