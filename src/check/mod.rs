//! Holds every kernel against its f64 reference on the adapter in hand.

mod case;
mod export;
mod report;
mod rows;
pub mod step;

pub use case::{Case, Data};
pub use export::export;
pub use report::{CheckFailed, Report, RowReport, Skipped, SkippedBy, run};

use std::collections::BTreeSet;

use crate::gpu::{
    AdapterClass, Buffers, Device, Executable, GpuError, Kernel, Memory, Plan, SectionId, Target,
};

/// One kernel at one shape, for one class of adapter.
pub struct Row {
    /// The kernel that the row is about; those of other ops may run along with it.
    pub kernel: &'static Kernel,
    /// The shape, for people.
    pub shape: String,
    /// Which class's sizes and variants are run; `None` where they are the same.
    pub class: Option<AdapterClass>,
    /// Bytes of its largest binding, where they are more than every adapter allows.
    binding_bytes: u64,
    /// Whether its tensors take long to make and to compare.
    large: bool,
    /// Why the kernel cannot run the shape on any adapter, if so.
    obstacle: Option<&'static str>,
    build: Build,
}

type Build = Box<dyn Fn(&mut Case) + Send + Sync>;

/// What became of a row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Worst error as a share of the tolerance's scale, over all outputs.
    pub worst: f64,
    /// The tolerance of the output with the worst error.
    pub tolerance: f64,
    /// The first thing that was wrong, with name, index and both values.
    pub failure: Option<String>,
    /// Labels of the kernels that were dispatched.
    pub kernels: BTreeSet<String>,
}

/// Every row: each kernel at ragged shapes, for both classes of adapter.
pub fn all_rows() -> Vec<Row> {
    rows::all()
}

impl Row {
    /// Runs the row twice on outputs full of NaN, compares with the reference, and wants equal bits, all
    /// of the kernel that the row names.
    ///
    /// # Errors
    /// When the kernel cannot run the shape or the device fails; a wrong result, or one of another
    /// kernel, is an [`Outcome`].
    pub fn run(&self, device: &Device) -> Result<Outcome, GpuError> {
        self.check_limit(device)?;
        let Some((case, section)) = self.case(device.class()) else {
            return Err(GpuError::Unsupported {
                kernel: self.kernel.label(),
                reason: self.obstacle.unwrap_or_default().to_owned(),
            });
        };
        let buffers: Buffers = Memory::default().allocate(device)?;
        let executable = Executable::compile(&case.plan, device, &buffers)?;
        let mut passes = Vec::new();
        for _ in 0..2 {
            if self.large {
                // Smaller rows of the same kernels poison what lies between, too.
                case.poison_outputs(device, &executable);
            } else {
                executable.poison_scratch(device);
            }
            case.upload(device, &executable);
            executable.run(device, section)?;
            passes.push(case.download(device, &executable)?);
        }
        let mut outcome = case.compare(&passes[0]);
        let dispatches = case.plan.dispatches(section).iter();
        outcome.kernels = dispatches.map(|d| d.kernel.label()).collect();
        if let Err(other) = self.expect_named(&case.plan, section) {
            outcome.failure = Some(other);
        }
        if outcome.failure.is_none() && passes[0] != passes[1] {
            outcome.failure = Some("two runs gave different bits".to_owned());
        }
        Ok(outcome)
    }

    /// Refuses a row before its inputs are made, where making them takes long.
    fn check_limit(&self, device: &Device) -> Result<(), GpuError> {
        let limit_bytes = device.target().max_binding_words as u64 * 4;
        if self.binding_bytes <= limit_bytes {
            return Ok(());
        }
        Err(GpuError::OverLimit {
            label: self.label(),
            size_bytes: self.binding_bytes,
            limit_bytes,
            limit: "max_storage_buffer_binding_size",
        })
    }

    /// Whether its inputs take long to make; smaller rows run the same kernels with the same
    /// constants.
    pub fn is_large(&self) -> bool {
        self.large
    }

    /// The classes of adapter that the row stands for.
    pub fn classes(&self) -> Vec<AdapterClass> {
        match self.class {
            Some(class) => vec![class],
            None => vec![AdapterClass::Gpu, AdapterClass::Software],
        }
    }

    /// Makes sure that all dispatches of the op are of the kernel that the row names.
    fn expect_named(&self, plan: &Plan, section: SectionId) -> Result<(), String> {
        plan.dispatches_only(section, &[self.kernel])
    }

    /// Why no adapter runs the kernel at this shape, if so.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// The dispatches of the row, without a device, for `class` where the row suits any; `None` where
    /// the kernel cannot run the shape.
    pub fn plan(&self, class: AdapterClass) -> Option<Plan> {
        Some(self.case(class)?.0.plan)
    }

    /// The row's inputs and expectations, with the section that holds its dispatches; for `class`
    /// where the row suits any.
    fn case(&self, class: AdapterClass) -> Option<(Case, SectionId)> {
        if self.obstacle.is_some() {
            return None;
        }
        let mut plan = Plan::new(Target::portable(self.class.unwrap_or(class)));
        plan.isolate_scratch();
        let section = plan.section();
        let mut case = Case::new(plan);
        (self.build)(&mut case);
        Some((case, section))
    }

    /// `kernel.variant shape`, with the class whose sizes are used.
    pub fn label(&self) -> String {
        format!(
            "{} {} {}",
            self.kernel.label(),
            self.shape,
            class_name(self.class)
        )
    }
}

/// `gpu`, `software`, or `any` where both are launched alike.
fn class_name(class: Option<AdapterClass>) -> &'static str {
    match class {
        Some(AdapterClass::Gpu) => "gpu",
        Some(AdapterClass::Software) => "software",
        None => "any",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceOptions;
    use crate::kernels::matmul;

    #[test]
    fn every_row_dispatches_the_kernel_that_it_names() {
        for row in all_rows().iter().filter(|row| !row.is_large()) {
            for class in row.classes() {
                if let Some((case, section)) = row.case(class) {
                    let named = row.expect_named(&case.plan, section);
                    assert_eq!(named, Ok(()), "{}", row.label());
                }
            }
        }
    }

    /// The row of one kernel under the name of another.
    #[test]
    fn a_row_that_another_kernel_computes_fails_however_right_the_result_is() {
        let device = Device::open(&DeviceOptions::default()).unwrap();
        let is_tiled = |row: &Row| std::ptr::eq(row.kernel, &matmul::TILED);
        let mut row = all_rows().into_iter().find(is_tiled).unwrap();
        assert_eq!(row.run(&device).unwrap().failure, None);
        row.kernel = &matmul::TILED_SMALL;
        let outcome = row.run(&device).unwrap();
        let failure = outcome.failure.unwrap();
        assert_eq!(
            failure,
            "matmul.tiled was dispatched, not matmul.tiled_small"
        );
        assert!(outcome.worst <= outcome.tolerance);
        assert!(outcome.kernels.contains("matmul.tiled"));
    }
}
