//! Times each kernel at shapes of real models on the adapter in hand, beside the adapter's own
//! measured ceilings.

pub mod all;
mod compare;
pub mod generate;
mod report;
mod rows;
pub mod scaling;
pub mod train;
mod verify;

use std::path::PathBuf;

pub use compare::Earlier;
pub use report::{Ceilings, Report, RowReport, run};
pub use rows::matmul_rows;

use crate::check::Case;
use crate::gpu::{
    AdapterClass, Device, Executable, GpuError, Kernel, Memory, Plan, SectionId, Target,
};
use crate::kernels::matmul;

/// One kernel at one shape.
pub struct Row {
    /// The kernel that the row is about.
    pub kernel: &'static Kernel,
    /// The shape, for people.
    pub shape: String,
    /// Whether the kernel is timed without the others that its function pushes.
    alone: bool,
    /// Bytes that it moves, where they are not those of the tensors it binds.
    bytes: Option<Count>,
    /// Why the kernel cannot run the shape on any adapter, if so.
    obstacle: Option<&'static str>,
    /// The matrix product that it computes, if it is one.
    product: Option<matmul::Use>,
    build: Box<dyn Fn(&mut Case) + Send + Sync>,
}

type Count = fn(AdapterClass) -> usize;

/// What a row took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time of one replay, in milliseconds: the median of several timings.
    pub ms: f64,
    /// Distance between the second lowest and the second highest timing, as a share of the median.
    pub spread: f64,
    /// Floating-point operations of the mathematics.
    pub flops: u64,
    /// Bytes of the tensors that the kernel binds, each once.
    pub bytes: u64,
}

/// An error of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// No row has the shape that was asked for.
    #[error("no row has '{shape}' in its shape; {hint}")]
    NoRow {
        /// What was asked for.
        shape: String,
        /// Which shapes there are.
        hint: String,
    },
    /// The file of an earlier run cannot be compared with.
    #[error(
        "cannot compare with '{}': {reason}; give the JSON of an earlier run of the kernels' benchmark",
        path.display()
    )]
    NoBaseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that holds no page of measurements.
    #[error(
        "cannot read '{}' as a page of measurements: {reason}; give the JSON that this benchmark wrote",
        path.display()
    )]
    NoPage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A batch without a sequence.
    #[error("a batch needs at least one sequence")]
    NoSequence,
    /// Some parts of a page failed, or some of its checks.
    #[error("{0}; the page says more, and the rest of it holds")]
    Parts(String),
    /// Some outputs were wrong.
    #[error("{failed} of {total} rows gave wrong outputs; `gpu-tlm check` says more")]
    Wrong {
        /// Rows with wrong outputs.
        failed: usize,
        /// All rows.
        total: usize,
    },
}

impl BenchError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Gpu(error) => error.is_usage(),
            Self::NoRow { .. }
            | Self::NoBaseline { .. }
            | Self::NoPage { .. }
            | Self::NoSequence => true,
            Self::Wrong { .. } | Self::Parts(_) => false,
        }
    }
}

impl Timing {
    /// Billions of floating-point operations a second.
    pub fn gflops(&self) -> f64 {
        self.flops as f64 / self.ms / 1e6
    }

    /// Billions of bytes a second.
    pub fn gb_per_s(&self) -> f64 {
        self.bytes as f64 / self.ms / 1e6
    }
}

/// Timings whose median is taken.
const SAMPLES: usize = 7;
/// Time that one timing should take, so that the cost of a submission and of its wait is small.
const SAMPLE_MS: f64 = 40.0;

/// Every row: each kernel at one or two shapes at least.
pub fn all_rows() -> Vec<Row> {
    rows::all()
}

/// The rows whose kernel is called `kernel` and whose shape holds `shape`. A shape `MxNxK` that no
/// row has is made a row of each variant of the matrix product.
///
/// # Errors
/// When there is none.
pub fn select(kernel: Option<&str>, shape: Option<&str>) -> Result<Vec<Row>, BenchError> {
    let called = |row: &Row| kernel.is_none_or(|name| row.kernel.is_called(name));
    let rows: Vec<Row> = all_rows().into_iter().filter(called).collect();
    let Some(shape) = shape else { return Ok(rows) };
    let shapes: Vec<String> = rows.iter().map(|row| row.shape.clone()).collect();
    let mut kept: Vec<Row> = rows
        .into_iter()
        .filter(|row| row.shape.contains(shape))
        .collect();
    if kept.is_empty() {
        let sizes = shape
            .split('x')
            .map(str::parse)
            .collect::<Result<Vec<usize>, _>>();
        if let Ok(&[m, n, k]) = sizes.as_deref()
            && m.min(n).min(k) > 0
        {
            kept = matmul_rows(m, n, k).into_iter().filter(called).collect();
        }
    }
    if kept.is_empty() {
        return Err(BenchError::NoRow {
            shape: shape.to_owned(),
            hint: match kernel {
                Some(name) => format!("{name} has {}", shapes.join("; ")),
                None => "`gpu-tlm bench kernels` lists them".to_owned(),
            },
        });
    }
    Ok(kept)
}

impl Row {
    /// `kernel.variant shape`.
    pub fn label(&self) -> String {
        format!("{} {}", self.kernel.label(), self.shape)
    }

    /// Checks that the row dispatches the kernel that it names, and its outputs, and then times it: twice to warm up and to choose the number of
    /// replays, then for the median. A wrong output or another kernel is the inner error.
    ///
    /// # Errors
    /// When the kernel cannot run the shape, or the device fails.
    pub fn run(&self, device: &Device) -> Result<Result<Timing, String>, GpuError> {
        if let Some(reason) = self.obstacle {
            return Err(GpuError::Unsupported {
                kernel: self.kernel.label(),
                reason: reason.to_owned(),
            });
        }
        let (case, section) = self.case(device.class());
        if let Err(other) = case.plan.dispatches_only(section, &[self.kernel]) {
            return Ok(Err(other));
        }
        let executable =
            Executable::compile(&case.plan, device, &Memory::default().allocate(device)?)?;
        // The outputs stay where they are, so that a kernel that is timed alone reads what the
        // others have written.
        if let Err(wrong) = verify::outputs(self.kernel, &case, device, &executable, section)? {
            return Ok(Err(wrong));
        }
        let only = self.alone.then_some(self.kernel);
        let once = executable.time(device, section, only, 1)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let replays = (SAMPLE_MS / once.wall_ms).clamp(1.0, 1000.0) as u32;
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            let elapsed = executable.time(device, section, only, replays)?;
            samples.push(elapsed.device_ms.unwrap_or(elapsed.wall_ms));
        }
        samples.sort_by(f64::total_cmp);
        let ms = samples[SAMPLES / 2];
        Ok(Ok(Timing {
            ms,
            spread: (samples[SAMPLES - 2] - samples[1]) / ms,
            flops: self.flops(&case.plan, section),
            bytes: match self.bytes {
                Some(count) => count(device.class()) as u64,
                None => case.plan.bound_bytes(section, self.kernel),
            },
        }))
    }

    fn flops(&self, plan: &Plan, section: SectionId) -> u64 {
        if self.alone {
            let own = plan.dispatches_of(section, self.kernel);
            own.map(|dispatch| dispatch.flops).sum()
        } else {
            plan.flops(section)
        }
    }

    fn case(&self, class: AdapterClass) -> (Case, SectionId) {
        let mut plan = Plan::new(Target::portable(class));
        plan.isolate_scratch();
        let section = plan.section();
        let mut case = Case::new(plan);
        (self.build)(&mut case);
        (case, section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceOptions;

    #[test]
    fn every_row_dispatches_the_kernel_that_it_names() {
        for row in all_rows() {
            for class in [AdapterClass::Gpu, AdapterClass::Software] {
                let (case, section) = row.case(class);
                let named = case.plan.dispatches_only(section, &[row.kernel]);
                assert_eq!(named, Ok(()), "{}", row.label());
            }
        }
    }

    #[test]
    fn a_row_that_another_kernel_computes_is_not_timed_and_one_that_none_can_is_skipped() {
        let device = Device::open(&DeviceOptions::default()).unwrap();
        let by = |rows: Vec<Row>, kernel| {
            let mut rows = rows.into_iter();
            rows.find(|row| std::ptr::eq(row.kernel, kernel)).unwrap()
        };
        let mut row = by(matmul_rows(4, 8, 4), &matmul::TILED);
        row.kernel = &matmul::TILED_SMALL;
        let wrong = row.run(&device).unwrap().unwrap_err();
        assert!(wrong.contains("matmul.tiled was dispatched"), "{wrong}");
        let row = by(matmul_rows(4, 7, 4), &matmul::TEXTURE_SUBGROUP);
        let error = row.run(&device).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        assert!(error.to_string().contains("whole quads"), "{error}");
    }
}
