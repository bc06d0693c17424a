//! Holds every kernel against its f64 reference on the adapter in hand.

mod case;
mod rows;

pub use case::{Case, Data};

use crate::gpu::{
    AdapterClass, Buffers, Device, Executable, GpuError, Kernel, Memory, Plan, SectionId,
};

/// One kernel at one shape, for one class of adapter.
pub struct Row {
    /// The kernel that the row is about; others may run along with it.
    pub kernel: &'static Kernel,
    /// The shape, for people.
    pub shape: String,
    /// Which class's sizes and variants are run.
    pub class: AdapterClass,
    build: Box<dyn Fn(&mut Case) + Send + Sync>,
}

/// What became of a row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Worst error as a share of the tolerance's scale, over all outputs.
    pub worst: f64,
    /// The tolerance of the output with the worst error.
    pub tolerance: f64,
    /// The first thing that was wrong, with name, index and both values.
    pub failure: Option<String>,
}

/// Every row: each kernel at ragged shapes, for both classes of adapter.
pub fn all_rows() -> Vec<Row> {
    rows::all()
}

impl Row {
    /// Runs the row twice on outputs full of NaN, compares with the reference, and wants equal bits.
    ///
    /// # Errors
    /// When the device fails; a wrong result is an [`Outcome`].
    pub fn run(&self, device: &Device) -> Result<Outcome, GpuError> {
        let (case, section) = self.case();
        let buffers: Buffers = Memory::default().allocate(device)?;
        let executable = Executable::compile(&case.plan, device, &buffers)?;
        let mut passes = Vec::new();
        for _ in 0..2 {
            executable.poison_scratch(device);
            case.upload(device, &executable);
            executable.run(device, section)?;
            passes.push(case.download(device, &executable)?);
        }
        let mut outcome = case.compare(&passes[0]);
        if outcome.failure.is_none() && passes[0] != passes[1] {
            outcome.failure = Some("two runs gave different bits".to_owned());
        }
        Ok(outcome)
    }

    /// The dispatches of the row, without a device.
    pub fn plan(&self) -> Plan {
        self.case().0.plan
    }

    fn case(&self) -> (Case, SectionId) {
        let mut plan = Plan::new(self.class);
        plan.isolate_scratch();
        let section = plan.section();
        let mut case = Case::new(plan);
        (self.build)(&mut case);
        (case, section)
    }

    /// `kernel.variant shape`, with the class whose sizes are used.
    pub fn label(&self) -> String {
        format!("{} {} {:?}", self.kernel.label(), self.shape, self.class)
    }
}
