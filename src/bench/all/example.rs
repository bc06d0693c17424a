//! A page for tests.

use super::page::{
    CheckFigures, Entry, GenerationFigures, KernelCheck, Outcome, Page, ProductFigures,
    TrainingFigures,
};
use crate::bench::{Ceilings, RowReport};
use crate::config::Precision;

fn row(variant: &str, ms: Option<f64>, failure: Option<&str>) -> RowReport {
    RowReport {
        kernel: "matmul".to_owned(),
        variant: variant.to_owned(),
        shape: "64x64x64 Nt".to_owned(),
        ms,
        spread: ms.map(|_| 0.02),
        gflops: ms.map(|ms| 525.0 / ms),
        gb_per_s: ms.map(|ms| 20.0 / ms),
        share_of_ceiling: ms.map(|_| 0.5),
        ratio: None,
        failure: failure.map(str::to_owned),
    }
}

fn entry<T>(name: &str, precision: Precision, outcome: Outcome<T>) -> Entry<T> {
    Entry {
        name: name.to_owned(),
        precision,
        outcome,
    }
}

pub(super) fn no_time<T>() -> Outcome<T> {
    Outcome::Skipped {
        reason: "the time budget is used up".to_owned(),
    }
}

/// A page with something of each kind: measured, wrong, skipped and failed.
pub(super) fn page() -> Page {
    let (f32, mixed) = (Precision::F32, Precision::Mixed);
    let product = |kernels| Outcome::Measured(ProductFigures { kernels });
    Page {
        format: 1,
        version: "0.1.0".to_owned(),
        date: "2026-11-26".to_owned(),
        adapter: "Example <GPU> | 9000".to_owned(),
        driver: "example 1.2".to_owned(),
        backend: "vulkan".to_owned(),
        software: false,
        memory_bytes: Some(8 << 30),
        system: "linux x86_64".to_owned(),
        host_cores: Some(16),
        budget_minutes: Some(10.0),
        elapsed_s: Some(71.5),
        notes: vec!["on battery".to_owned()],
        check: Outcome::Measured(check()),
        ceilings: Outcome::Measured(Ceilings {
            fma_gflops: 58_500.0,
            copy_gb_per_s: 2854.0,
            workgroup_gb_per_s: 30_900.0,
        }),
        training: vec![
            entry("S", f32, Outcome::Measured(training())),
            entry("S", mixed, Outcome::Measured(older_training())),
            entry("G", f32, no_time()),
            entry(
                "G",
                mixed,
                Outcome::Failed {
                    error: "the device was lost".to_owned(),
                },
            ),
        ],
        generation: vec![
            entry(
                "S",
                f32,
                Outcome::Measured(GenerationFigures {
                    prompt_tokens: Some(16),
                    new_tokens: 112,
                    tokens_per_s: 555.0,
                }),
            ),
            entry("M", f32, no_time()),
        ],
        products: vec![
            entry(
                "64x64x64 Nt",
                f32,
                product(vec![
                    row("tiled", Some(0.05), None),
                    row("tiled_quads", Some(0.025), None),
                    row("tiled_small", None, Some("two runs gave different bits")),
                ]),
            ),
            entry("128x128x128 Nt", f32, no_time()),
            entry("256x256x256 Nt", f32, no_time()),
            entry(
                "64x64x64 Nt",
                mixed,
                product(vec![row(
                    "tiled_f16",
                    None,
                    Some("element 0 is not a number"),
                )]),
            ),
            entry("128x128x128 Nt", mixed, no_time()),
        ],
    }
}

fn training() -> TrainingFigures {
    TrainingFigures {
        tokens_per_s: 488_435.0,
        ms_per_step: 2.1,
        spread: Some(0.04),
        steps: Some(50),
        gflops: 2_900.0,
        share_of_ceiling: Some(0.0496),
        matmul_gflops: Some(20_000.0),
        host_share: Some(0.35),
        peak_device_bytes: Some(56 << 20),
        planned_device_bytes: Some(55 << 20),
        first_step_s: Some(0.512),
    }
}

/// Figures of a page that knows less.
fn older_training() -> TrainingFigures {
    TrainingFigures {
        spread: None,
        share_of_ceiling: None,
        matmul_gflops: None,
        host_share: None,
        peak_device_bytes: None,
        planned_device_bytes: None,
        first_step_s: None,
        ..training()
    }
}

fn check() -> CheckFigures {
    let kernel = |kernel: &str, failed, worst| KernelCheck {
        kernel: kernel.to_owned(),
        rows: 12,
        failed,
        worst,
        tolerance: 1e-5,
    };
    CheckFigures {
        passed: 23,
        failed: 1,
        skipped_for_adapter: 4,
        skipped_for_kernel: 2,
        seconds: 12.3,
        left_out: vec!["whole training steps: the run was stopped before them".to_owned()],
        failures: vec!["softmax_forward.portable 7x8 (gpu): output[3] is\n2".to_owned()],
        kernels: vec![
            kernel("matmul.tiled", 0, Some(1.5e-7)),
            kernel("softmax_forward.portable", 1, None),
        ],
    }
}
