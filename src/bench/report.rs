//! Runs rows after the probes, and sets each beside the ceilings.

use super::{BenchError, Row, Timing, all_rows};
use crate::check::{Skipped, SkippedBy};
use crate::gpu::{Device, GpuError, Kernel};
use crate::kernels::probe;

/// What the adapter reaches at best, by the probes of the same run.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// Multiply-adds in registers, two operations each.
    pub fma_gflops: f64,
    /// A copy between two buffers, bytes read and written.
    pub copy_gb_per_s: f64,
    /// Loads from workgroup memory.
    pub workgroup_gb_per_s: f64,
}

/// One row's figures; none but `failure` where its outputs were wrong.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RowReport {
    /// The kernel.
    pub kernel: String,
    /// Its variant.
    pub variant: String,
    /// The shape.
    pub shape: String,
    /// Median time, in milliseconds.
    pub ms: Option<f64>,
    /// Distance between the second lowest and the second highest timing, as a share of the median.
    pub spread: Option<f64>,
    /// Billions of floating-point operations a second.
    pub gflops: Option<f64>,
    /// Billions of bytes a second, each tensor counted once.
    pub gb_per_s: Option<f64>,
    /// The nearer one of the two ceilings, of arithmetic and of memory, that is reached: 1 at the
    /// ceiling. Tensors that stay in a cache can pass that of memory.
    pub share_of_ceiling: Option<f64>,
    /// Time of an earlier run over this one's: 2 is twice as fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What was wrong with the outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The figures of all rows.
#[derive(Clone, Debug)]
pub struct Report {
    /// The adapter's ceilings.
    pub ceilings: Ceilings,
    /// The rows that ran.
    pub rows: Vec<RowReport>,
    /// The rows that this adapter cannot run.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The result of the whole.
    ///
    /// # Errors
    /// When a row's outputs were wrong.
    pub fn verdict(&self) -> Result<(), BenchError> {
        let failed = self.rows.iter().filter(|r| r.failure.is_some()).count();
        let total = self.rows.len();
        if failed == 0 {
            Ok(())
        } else {
            Err(BenchError::Wrong { failed, total })
        }
    }
}

/// Measures the ceilings and then `rows`, one after the other. `done` is called after each.
///
/// # Errors
/// When the device fails, or a probe gives wrong outputs.
pub fn run(device: &Device, rows: &[Row], done: impl Fn(&Row)) -> Result<Report, BenchError> {
    let ceilings = ceilings_of(device)?;
    let mut report = Report {
        ceilings,
        rows: Vec::new(),
        skipped: Vec::new(),
    };
    for row in rows {
        match row.run(device) {
            Ok(timing) => report.rows.push(row_report(row, timing, Some(&ceilings))),
            Err(error) if error.is_unsupported() => report.skipped.push(skipped(row, &error)),
            Err(error) => return Err(in_kernel(row, error)),
        }
        done(row);
    }
    Ok(report)
}

/// Measures the ceilings.
///
/// # Errors
/// When the device fails, or a probe gives wrong outputs.
pub(super) fn ceilings_of(device: &Device) -> Result<Ceilings, BenchError> {
    Ok(Ceilings {
        fma_gflops: probe(device, &probe::FMA)?.gflops(),
        copy_gb_per_s: probe(device, &probe::COPY)?.gb_per_s(),
        workgroup_gb_per_s: probe(device, &probe::WORKGROUP)?.gb_per_s(),
    })
}

/// Times one row; its shares are left out where no ceilings are known.
///
/// # Errors
/// When the kernel cannot run the shape, or the device fails.
pub(super) fn run_row(
    device: &Device,
    row: &Row,
    ceilings: Option<&Ceilings>,
) -> Result<RowReport, BenchError> {
    let timing = row.run(device).map_err(|error| in_kernel(row, error))?;
    Ok(row_report(row, timing, ceilings))
}

fn probe(device: &Device, kernel: &'static Kernel) -> Result<Timing, BenchError> {
    let row = all_rows()
        .into_iter()
        .find(|row| std::ptr::eq(row.kernel, kernel))
        .expect("every kernel has a row");
    match row.run(device).map_err(|error| in_kernel(&row, error))? {
        Ok(timing) => Ok(timing),
        Err(_) => Err(BenchError::Wrong {
            failed: 1,
            total: 1,
        }),
    }
}

/// A device that fails says which kernel it failed in.
fn in_kernel(row: &Row, error: GpuError) -> BenchError {
    match error {
        GpuError::Device(message) => {
            GpuError::Device(format!("{message}, in {}", row.label())).into()
        }
        other => other.into(),
    }
}

fn skipped(row: &Row, error: &GpuError) -> Skipped {
    Skipped {
        kernel: row.kernel.name.to_owned(),
        variant: row.kernel.variant.to_owned(),
        shape: row.shape.clone(),
        reason: match error {
            GpuError::Unsupported { reason, .. } => reason.clone(),
            other => other.to_string(),
        },
        by: match row.obstacle {
            Some(_) => SkippedBy::Shape,
            None => SkippedBy::Adapter,
        },
    }
}

fn row_report(row: &Row, timing: Result<Timing, String>, ceilings: Option<&Ceilings>) -> RowReport {
    let (timing, failure) = match timing {
        Ok(timing) => (Some(timing), None),
        Err(wrong) => (None, Some(wrong)),
    };
    let share = |timing: Timing, ceilings: &Ceilings| {
        // Loads from workgroup memory have a ceiling of their own.
        let memory = if std::ptr::eq(row.kernel, &probe::WORKGROUP) {
            ceilings.workgroup_gb_per_s
        } else {
            ceilings.copy_gb_per_s
        };
        (timing.gflops() / ceilings.fma_gflops).max(timing.gb_per_s() / memory)
    };
    RowReport {
        kernel: row.kernel.name.to_owned(),
        variant: row.kernel.variant.to_owned(),
        shape: row.shape.clone(),
        ms: timing.map(|t| t.ms),
        spread: timing.map(|t| t.spread),
        gflops: timing.map(|t| t.gflops()),
        gb_per_s: timing.map(|t| t.gb_per_s()),
        share_of_ceiling: timing.zip(ceilings).map(|(t, c)| share(t, c)),
        ratio: None,
        failure,
    }
}
