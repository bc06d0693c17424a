//! The parts of a page in the order in which they run, and how long each may take.

use crate::bench::train::{BATCH_SIZE, ENOUGH_S, Model, STEPS, step_flops};
use crate::bench::{Ceilings, Row, all_rows, matmul_rows};
use crate::check::step::train_config;
use crate::config::{ModelConfig, Precision};
use crate::gpu::{AdapterClass, Elements, Target};
use crate::kernels::family::candidates;
use crate::kernels::matmul::Form;
use crate::train::step_plan::StepPlan;

/// What everything is measured with, one after the other.
pub const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Mixed];

/// Something that is measured, or skipped, as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// The probes.
    Ceilings,
    /// Every kernel against the reference.
    Check,
    /// Steps of a model.
    Training(Model, Precision),
    /// Tokens of a model.
    Generation(Model, Precision),
    /// A matrix product.
    Product(Shape, Precision),
}

/// Operands and sizes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) form: Form,
    /// m, n and k.
    pub(super) sizes: [usize; 3],
    /// Whether a driver that runs on the CPU would take minutes for it.
    pub(super) for_gpus_alone: bool,
}

/// Squares, and the layers of model G over a batch.
const LARGE: [[usize; 3]; 6] = [
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [8192, 768, 768],
    [8192, 2048, 768],
    [8192, 768, 2048],
    [4096, 4096, 4096],
];

/// Every part: the ceilings first, since estimates go by them, and then what says most about an adapter.
/// The largest model is last, so that a slow adapter spends its budget on all the others.
pub(super) fn all() -> Vec<Part> {
    let mut parts = vec![Part::Ceilings, Part::Check];
    let precisions = PRECISIONS;
    for model in [Model::Small, Model::Medium] {
        parts.extend(precisions.map(|precision| Part::Training(model, precision)));
        parts.extend(precisions.map(|precision| Part::Generation(model, precision)));
    }
    for shape in shapes() {
        parts.extend(precisions.map(|precision| Part::Product(shape, precision)));
    }
    parts.extend(precisions.map(|precision| Part::Training(Model::Large, precision)));
    parts
}

impl Shape {
    /// `MxNxK Nt`, as the rows of the benchmark are called.
    pub(super) fn name(&self) -> String {
        let [m, n, k] = self.sizes;
        format!("{m}x{n}x{k} {:?}", self.form)
    }

    /// The rows of the kernels that plans for adapters like `target` may take.
    pub(super) fn rows(&self, target: &Target, precision: Precision) -> Vec<Row> {
        let operands = match precision {
            Precision::F32 => Elements::Words,
            Precision::Mixed => Elements::Halves,
        };
        let [m, n, k] = self.sizes;
        let is_this = |row: &Row| {
            let used = row.product.as_ref();
            used.is_some_and(|used| (used.form, used.sizes) == (self.form, self.sizes))
        };
        let mut rows: Vec<Row> = all_rows().into_iter().filter(is_this).collect();
        if rows.is_empty() {
            rows = matmul_rows(m, n, k);
        }
        rows.retain(|row| {
            row.product.as_ref().is_some_and(|used| {
                let recipes = candidates(target, used);
                let mut kernels = recipes.iter().map(|recipe| recipe.variant.kernel());
                used.operands == operands && kernels.any(|k| std::ptr::eq(k, row.kernel))
            })
        });
        rows
    }
}

/// The products of the benchmark's table and the large ones, the least work first.
fn shapes() -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    let rows = all_rows();
    let table = rows.iter().filter_map(|row| row.product.as_ref());
    let table = table.map(|used| (used.form, used.sizes, false));
    let large = LARGE.map(|sizes| (Form::Nt, sizes, true));
    for (form, sizes, for_gpus_alone) in table.chain(large) {
        let known = |shape: &Shape| (shape.form, shape.sizes) == (form, sizes);
        if !shapes.iter().any(known) {
            shapes.push(Shape {
                form,
                sizes,
                for_gpus_alone,
            });
        }
    }
    shapes.sort_by_key(|shape| shape.sizes.iter().product::<usize>());
    shapes
}

/// A model in a precision.
pub(super) fn config(model: Model, precision: Precision) -> ModelConfig {
    ModelConfig {
        precision,
        ..model.config()
    }
}

/// Bytes of device memory that a training step takes.
pub(super) fn training_bytes(model: &ModelConfig, target: Target) -> u64 {
    let plan = StepPlan::new(model, &train_config(BATCH_SIZE, BATCH_SIZE), target);
    plan.device_bytes().iter().map(|(_, bytes)| bytes).sum()
}

/// Why a step does not fit the adapter's memory, if it does not.
pub(super) fn too_large(needed_bytes: u64, memory_bytes: Option<u64>) -> Option<String> {
    // The driver and the desktop take some of it.
    const USABLE: f64 = 0.9;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let memory = memory_bytes?;
    (needed_bytes as f64 > USABLE * memory as f64).then(|| {
        format!(
            "it needs {:.1} GiB of device memory, and the adapter has {:.1} GiB",
            gib(needed_bytes),
            gib(memory)
        )
    })
}

/// What estimates go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// Floating-point operations a second of a product within a plan.
    flops_per_s: f64,
    /// Least time of a pass, in seconds: its dispatches have to be recorded and started.
    pass_s: f64,
    /// Seconds that the tuner may take for a model.
    tuning_s: f64,
}

/// Time until a model's kernels are compiled.
const COMPILING_S: f64 = 3.0;
/// What the probes take.
pub(super) const CEILINGS_S: f64 = 3.0;
/// What the check of whole steps takes at the end of the table.
pub(super) const CHECKED_STEPS_S: f64 = 10.0;

impl Speed {
    /// That of an adapter whose ceilings are known, or else of a slow one of its class.
    pub(super) fn new(class: AdapterClass, ceilings: Option<&Ceilings>, tunes: bool) -> Self {
        let (share, slow_gflops, pass_s) = match class {
            AdapterClass::Gpu => (0.2, 500.0, 0.003),
            AdapterClass::Software => (0.4, 20.0, 0.01),
        };
        let gflops = ceilings.map_or(slow_gflops, |ceilings| share * ceilings.fma_gflops);
        Self {
            flops_per_s: gflops * 1e9,
            pass_s,
            tuning_s: if tunes { 8.0 } else { 0.0 },
        }
    }

    /// Seconds of a part of training.
    pub(super) fn training_s(&self, model: &ModelConfig) -> f64 {
        // Drawing the initial weights, on the host's cores.
        const PARAMETER_S: f64 = 1e-7;
        // Two before the timed ones, and one by dispatches.
        const FURTHER_STEPS: f64 = 3.0;
        let step_s =
            self.pass_s + step_flops(model, BATCH_SIZE * model.context_length) / self.flops_per_s;
        let (fewest, most) = (*STEPS.start() as f64, *STEPS.end() as f64);
        let timed_s = (most * step_s).min(ENOUGH_S).max(fewest * step_s);
        COMPILING_S
            + self.tuning_s
            + PARAMETER_S * weights(model)
            + FURTHER_STEPS * step_s
            + timed_s
            + 2.0 * self.row_s([1024; 3])
    }

    /// Seconds of a part of generation, up to a whole context. A pass is planned for a power of two of
    /// tokens, so on average for a third more than there are.
    pub(super) fn generation_s(&self, model: &ModelConfig) -> f64 {
        let passes = model.context_length as f64;
        let flops = 2.0 * weights(model) * passes * passes / 2.0 * 4.0 / 3.0;
        COMPILING_S + self.tuning_s + passes * self.pass_s + flops / self.flops_per_s
    }

    /// Seconds of a product by `kernels` of them.
    pub(super) fn product_s(&self, shape: &Shape, kernels: usize) -> f64 {
        kernels as f64 * self.row_s(shape.sizes)
    }

    /// Seconds of a row of the benchmark.
    fn row_s(&self, [m, n, k]: [usize; 3]) -> f64 {
        const SETUP_S: f64 = 0.1;
        // Drawing operands, and reading outputs back.
        const ELEMENT_S: f64 = 2.5e-7;
        // A few to verify and to warm up, and seven timings of at least 40 ms.
        const RUNS: f64 = 12.0;
        const SHORTEST_RUN_S: f64 = 0.04;
        let elements = (m * k + k * n + m * n) as f64;
        let run_s = 2.0 * (m * n * k) as f64 / self.flops_per_s;
        SETUP_S + ELEMENT_S * elements + RUNS * run_s.max(SHORTEST_RUN_S)
    }
}

/// Weights of the matrices.
fn weights(model: &ModelConfig) -> f64 {
    let block = 4 * model.d_model * model.d_model + 3 * model.d_model * model.d_ff;
    (model.num_layers * block + 2 * model.vocab_size * model.d_model) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILINGS: Ceilings = Ceilings {
        fma_gflops: 58_500.0,
        copy_gb_per_s: 2_854.0,
        workgroup_gb_per_s: 30_900.0,
    };

    #[test]
    fn every_precision_has_every_model_and_product() {
        let parts = all();
        for precision in PRECISIONS {
            for model in [Model::Small, Model::Medium, Model::Large] {
                assert!(parts.contains(&Part::Training(model, precision)));
            }
            let is_product = |part: &&Part| matches!(part, Part::Product(_, p) if *p == precision);
            assert!(parts.iter().filter(is_product).count() > LARGE.len());
        }
        let mut named: Vec<String> = shapes().iter().map(Shape::name).collect();
        let count = named.len();
        named.sort();
        named.dedup();
        assert_eq!(named.len(), count);
    }

    #[test]
    fn products_are_timed_by_the_kernels_of_the_class_and_the_precision() {
        let labels = |class, precision| -> Vec<&str> {
            let shape = shapes().into_iter().find(|s| s.sizes == [2048; 3]).unwrap();
            let rows = shape.rows(&Target::portable(class), precision);
            rows.iter().map(|row| row.kernel.variant).collect()
        };
        let on_gpu = labels(AdapterClass::Gpu, Precision::F32);
        assert!(on_gpu.contains(&"tiled") && !on_gpu.contains(&"tiled_f16"));
        assert_eq!(labels(AdapterClass::Software, Precision::F32), ["texture"]);
        let halves = labels(AdapterClass::Gpu, Precision::Mixed);
        assert!(!halves.is_empty() && halves.iter().all(|v| v.contains("f16")));
    }

    #[test]
    fn what_does_not_fit_the_memory_is_told_with_both_sizes() {
        let gib = 1 << 30;
        assert_eq!(too_large(7 * gib, Some(8 * gib)), None);
        assert_eq!(too_large(7 * gib, None), None);
        assert_eq!(
            too_large(15 * gib / 2, Some(8 * gib)).unwrap(),
            "it needs 7.5 GiB of device memory, and the adapter has 8.0 GiB"
        );
    }

    #[test]
    fn estimates_are_seconds_on_a_fast_gpu_and_minutes_for_a_large_model_on_a_cpu() {
        let large = config(Model::Large, Precision::F32);
        let gpu = Speed::new(AdapterClass::Gpu, Some(&CEILINGS), true);
        let cpu = Speed::new(AdapterClass::Software, None, false);
        assert!((10.0..60.0).contains(&gpu.training_s(&large)));
        assert!(cpu.training_s(&large) > 600.0);
        let small = config(Model::Small, Precision::F32);
        assert!((5.0..40.0).contains(&cpu.training_s(&small)));
        assert!(
            cpu.training_s(&small)
                < Speed::new(AdapterClass::Software, None, true).training_s(&small)
        );
        assert!(
            cpu.generation_s(&small) < cpu.generation_s(&config(Model::Medium, Precision::F32))
        );
    }
}
