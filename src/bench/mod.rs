//! Times each kernel at shapes of real models on the adapter in hand.

mod rows;

use std::time::Instant;

use crate::check::Case;
use crate::gpu::{AdapterClass, Device, Executable, GpuError, Kernel, Memory, Plan, SectionId};

/// One kernel at one shape.
pub struct Row {
    /// The kernel that the row is about.
    pub kernel: &'static Kernel,
    /// The shape, for people.
    pub shape: String,
    /// Whether the kernel is timed without the others that its function pushes.
    alone: bool,
    build: Box<dyn Fn(&mut Case) + Send + Sync>,
}

/// What a row took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Wall time of one replay, in milliseconds: the median of several timings.
    pub ms: f64,
    /// Floating-point operations of the mathematics.
    pub flops: u64,
    /// Bytes of the tensors that the kernel binds, each once.
    pub bytes: u64,
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
/// Wall time that one timing should take, so that the cost of a submission and of its wait is small.
const SAMPLE_MS: f64 = 40.0;

/// Every row: each kernel at one or two shapes at least.
pub fn all_rows() -> Vec<Row> {
    rows::all()
}

impl Row {
    /// `kernel.variant shape`.
    pub fn label(&self) -> String {
        format!("{} {}", self.kernel.label(), self.shape)
    }

    /// Times the row: once to warm up and to choose the number of replays, then for the median.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&self, device: &Device) -> Result<Timing, GpuError> {
        let (case, section) = self.case(device.class());
        let executable =
            Executable::compile(&case.plan, device, &Memory::default().allocate(device)?)?;
        case.upload(device, &executable);
        // The first replay compiles the kernels on some drivers.
        time(device, &executable, section, 1)?;
        let once_ms = time(device, &executable, section, 1)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let replays = (SAMPLE_MS / once_ms).clamp(1.0, 1000.0) as u32;
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            samples.push(time(device, &executable, section, replays)?);
        }
        samples.sort_by(f64::total_cmp);
        let (flops, bytes) = (
            case.plan.flops(section),
            case.plan.bound_bytes(section, self.kernel),
        );
        Ok(Timing {
            ms: samples[SAMPLES / 2],
            flops,
            bytes,
        })
    }

    fn case(&self, class: AdapterClass) -> (Case, SectionId) {
        let mut plan = Plan::new(class);
        plan.isolate_scratch();
        let section = plan.section();
        let mut case = Case::new(plan);
        (self.build)(&mut case);
        if self.alone {
            case.plan.keep_only(section, self.kernel);
        }
        (case, section)
    }
}

/// Wall time of one of `replays` in one submission, in milliseconds.
fn time(
    device: &Device,
    executable: &Executable,
    section: SectionId,
    replays: u32,
) -> Result<f64, GpuError> {
    let start = Instant::now();
    executable.submit(device, |recorder| {
        for _ in 0..replays {
            recorder.replay(section);
        }
    })?;
    device.wait()?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(replays))
}
