//! How large the samples are by which kernels are told apart, and how long they are timed.

use super::Chip;
use crate::gpu::AdapterClass;

/// Seconds of a GPU's multiply-adds that one sample may take. A product of so many operations has several
/// times the workgroups that a GPU computes at once, so kernels are compared as they run in large ones.
const SAMPLE_S: f64 = 2e-3;
/// Operations of a GPU's samples at least and at most, and where its speed is unknown.
const FEWEST_FLOPS: usize = 1 << 29;
const MOST_FLOPS: usize = 1 << 40;
const USUAL_FLOPS: usize = 1 << 33;

/// What it may take to time a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    /// Operations of a sample at most; an op of more is timed at a part.
    pub(super) most_flops: usize,
    /// Milliseconds of the run that decides whether a candidate stays in the race, at least: the op is
    /// repeated in one submission until it takes so long.
    pub(super) probe_ms: f64,
    /// Milliseconds that each further run should take, so that what is beside the op is small.
    pub(super) run_ms: f64,
    /// Repetitions at most.
    pub(super) most_replays: u32,
}

impl Effort {
    /// For adapters of `class`, of which `chip` is known; `has_clock` says whether they keep time
    /// themselves.
    pub(super) fn new(class: AdapterClass, chip: Option<Chip>, has_clock: bool) -> Self {
        if class == AdapterClass::Software {
            // Ten milliseconds at 50 GFLOP/s, of which one run says enough.
            return Self {
                most_flops: 1 << 29,
                probe_ms: 0.0,
                run_ms: 4.0,
                most_replays: 100,
            };
        }
        // By the host's clock a submission and its wait count too: 67 microseconds on an H100.
        let (probe_ms, run_ms) = if has_clock { (0.2, 1.0) } else { (2.0, 4.0) };
        Self {
            most_flops: chip.map_or(USUAL_FLOPS, |chip| flops_of(chip.gflops)),
            probe_ms,
            run_ms,
            most_replays: 1000,
        }
    }

    /// Repetitions with which an op of `once_ms` takes up to `goal_ms`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    pub(super) fn replays(&self, once_ms: f64, goal_ms: f64) -> u32 {
        (goal_ms / once_ms).clamp(1.0, f64::from(self.most_replays)) as u32
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number that saturates, and is clamped"
)]
fn flops_of(gflops: f64) -> usize {
    let flops = (gflops * 1e9 * SAMPLE_S) as usize;
    flops.clamp(FEWEST_FLOPS, MOST_FLOPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Question;
    use crate::kernels::FAMILIES;

    /// Microseconds that a timed run has to take for kernels to be told apart.
    const LEAST_US: f64 = 50.0;

    fn h100() -> Chip {
        Chip {
            units: Some(132),
            gflops: 58_500.0,
        }
    }

    #[test]
    fn every_timed_run_on_a_fast_gpu_is_long_enough() {
        let effort = Effort::new(AdapterClass::Gpu, Some(h100()), true);
        // From a normalisation of a few rows to a large product.
        for once_us in [2.0, 20.0, 49.0, 51.0, 150.0, 990.0, 1010.0, 5000.0] {
            let once_ms = once_us / 1e3;
            let replays = effort.replays(once_ms, effort.run_ms);
            let run_us = once_us * f64::from(replays);
            assert!(run_us >= 10.0 * LEAST_US, "{run_us} us of {once_us}");
            assert!(run_us <= once_us.max(1000.0), "{run_us} us of {once_us}");
        }
        assert!(effort.probe_ms * 1e3 >= LEAST_US);
    }

    /// What was cut to 1024x1024x4096 had half as many tiles of 128x128 as an H100 has units.
    #[test]
    fn a_sample_fills_the_gpu_and_takes_some_milliseconds() {
        let cut = |sizes: [usize; 3], chip| {
            let (kind, sizes) = ("matmul nt", sizes.to_vec());
            let effort = Effort::new(AdapterClass::Gpu, chip, true);
            let within = FAMILIES[0].within(&Question { kind, sizes }, effort.most_flops);
            within.unwrap().sizes
        };
        assert_eq!(cut([4096; 3], None), [1024, 1024, 4096]);
        let sizes = cut([4096; 3], Some(h100()));
        let tiles = sizes[0].div_ceil(128) * sizes[1].div_ceil(128);
        assert!(tiles >= 2 * 132, "{sizes:?}");
        // 250 TFLOP/s by matrices, 40 without.
        let flops = 2.0 * sizes.iter().product::<usize>() as f64;
        assert!(flops / 250e12 * 1e6 >= LEAST_US, "{sizes:?}");
        assert!(flops / 40e12 <= 5e-3, "{sizes:?}");
        // A small GPU gets a small one.
        let slow = Chip {
            units: Some(8),
            gflops: 400.0,
        };
        let sizes = cut([4096; 3], Some(slow));
        assert!(2.0 * sizes.iter().product::<usize>() as f64 / 400e9 <= 5e-3);
    }

    #[test]
    fn software_adapters_take_no_longer_than_they_did() {
        for (chip, has_clock) in [(None, true), (None, false), (Some(h100()), true)] {
            let effort = Effort::new(AdapterClass::Software, chip, has_clock);
            assert_eq!((effort.most_flops, effort.probe_ms), (1 << 29, 0.0));
            let replays = [0.001, 0.5, 3.0, 9.0].map(|ms| effort.replays(ms, effort.run_ms));
            assert_eq!(replays, [100, 8, 1, 1]);
        }
    }
}
