//! What is measured of a GPU as a whole: how many workgroups it computes at once, of which wgpu tells
//! nothing, and how many operations a second that makes.

use std::time::{Duration, Instant};

use crate::gpu::{Device, Executable, GpuError, Memory, Plan, SectionId};
use crate::kernels::probe::{self, FMAS_PER_ITERATION};

/// Lanes of a timed workgroup: those of a product's. With eight chains of multiply-adds each they keep a
/// unit busy, so two workgroups on one unit take twice as long as one.
const LANES: usize = 256;
/// Workgroups at most.
const MOST: usize = 4096;
/// Some workgroups are more than a GPU computes at once where they take so many times as long as one.
const SLOWER: f64 = 1.3;
/// Timings of which the shortest is taken.
const ROUNDS: usize = 3;
/// Seconds after which the number stays unknown; about 0.05 are needed.
const BUDGET: Duration = Duration::from_millis(300);
/// Milliseconds that one workgroup should take, by the device's clock, and by the host's, which counts
/// submissions and waits too.
const DEVICE_MS: f64 = 0.2;
const HOST_MS: f64 = 1.0;

/// What was measured of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Chip {
    /// Workgroups of 256 lanes that it computes at once, each as fast as if it were alone; `None` where
    /// no number could be told.
    pub units: Option<usize>,
    /// Multiply-adds of so many workgroups, in 10^9 operations a second.
    pub gflops: f64,
}

/// For people.
impl std::fmt::Display for Chip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.units {
            Some(units) => write!(f, "{units} workgroups at once")?,
            None => write!(f, "an unknown number of workgroups at once")?,
        }
        write!(f, ", {:.0} GFLOP/s", self.gflops)
    }
}

/// Measures `device`.
///
/// # Errors
/// When the device fails.
pub(super) fn measure(device: &Device) -> Result<Chip, GpuError> {
    let started = Instant::now();
    let iterations = iterations(device)?;
    let one = Probe::new(device, 1, iterations)?;
    let ratio = |count: usize| {
        if started.elapsed() > BUDGET {
            return Ok(None);
        }
        let many = Probe::new(device, count, iterations)?;
        let (mut short, mut long) = (f64::INFINITY, f64::INFINITY);
        // In turn, so that a clock that changes does so for both.
        for _ in 0..ROUNDS {
            short = short.min(one.ms(device)?);
            long = long.min(many.ms(device)?);
        }
        Ok(Some(long / short))
    };
    let units = most_at_once(ratio)?;
    let count = units.unwrap_or(MOST);
    let all = Probe::new(device, count, iterations)?;
    let mut ms = f64::INFINITY;
    for _ in 0..ROUNDS {
        ms = ms.min(all.ms(device)?);
    }
    let flops = 2 * FMAS_PER_ITERATION * iterations * LANES * count;
    let gflops = flops as f64 / ms / 1e6;
    Ok(Chip { units, gflops })
}

/// The largest count of workgroups that takes about as long as one, by the ratio of both times: `None`
/// where the ratio is unknown, or says so of any count.
fn most_at_once<E>(
    mut ratio: impl FnMut(usize) -> Result<Option<f64>, E>,
) -> Result<Option<usize>, E> {
    let (mut flat, mut slower) = (1, None);
    loop {
        let next = match slower {
            None if flat == MOST => return Ok(None),
            None => 2 * flat,
            Some(slower) if slower - flat == 1 => return Ok(Some(flat)),
            Some(slower) => usize::midpoint(flat, slower),
        };
        match ratio(next)? {
            None => return Ok(None),
            Some(ratio) if ratio > SLOWER => slower = Some(next),
            Some(_) => flat = next,
        }
    }
}

/// Iterations with which one workgroup takes long enough to be timed.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped"
)]
fn iterations(device: &Device) -> Result<usize, GpuError> {
    let mut iterations = 64;
    for _ in 0..4 {
        let probe = Probe::new(device, 1, iterations)?;
        // In the first run some drivers compile.
        probe.ms(device)?;
        let elapsed = probe.elapsed(device)?;
        let goal_ms = elapsed.device_ms.map_or(HOST_MS, |_| DEVICE_MS);
        let ms = elapsed.device_ms.unwrap_or(elapsed.wall_ms);
        if ms > 0.8 * goal_ms {
            break;
        }
        iterations = (iterations as f64 * (goal_ms / ms).min(64.0)) as usize;
    }
    Ok(iterations)
}

/// Some workgroups of multiply-adds.
struct Probe {
    executable: Executable,
    section: SectionId,
}

impl Probe {
    fn new(device: &Device, count: usize, iterations: usize) -> Result<Self, GpuError> {
        let mut plan = Plan::new(device.target());
        plan.isolate_scratch();
        let section = plan.section();
        plan.set_scope("tuner");
        let input = plan.scratch("input", count, LANES);
        probe::fma_by(&mut plan, LANES, input, iterations);
        let memory = Memory::default().allocate(device)?;
        let executable = Executable::compile(&plan, device, &memory)?;
        Ok(Self {
            executable,
            section,
        })
    }

    fn elapsed(&self, device: &Device) -> Result<crate::gpu::Elapsed, GpuError> {
        self.executable.time(device, self.section, None, 1)
    }

    fn ms(&self, device: &Device) -> Result<f64, GpuError> {
        let elapsed = self.elapsed(device)?;
        Ok(elapsed.device_ms.unwrap_or(elapsed.wall_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::gpu::{AdapterClass, DeviceOptions};

    fn found(mut ratio: impl FnMut(usize) -> Option<f64>) -> Option<usize> {
        let Ok(found) = most_at_once::<Infallible>(|count| Ok(ratio(count)));
        found
    }

    /// In waves of `units`, as hardware does that has a workgroup on every unit before it has two on one.
    fn waves(units: usize) -> impl Fn(usize) -> f64 {
        move |count| count.div_ceil(units) as f64
    }

    #[test]
    fn the_end_of_the_flat_part_is_the_number_of_units() {
        for units in [1, 2, 3, 8, 20, 64, 108, 132, 1000, 2048] {
            assert_eq!(found(|count| Some(waves(units)(count))), Some(units));
        }
    }

    #[test]
    fn noise_and_slow_clocks_below_the_step_do_not_move_it() {
        for units in [7, 46, 132] {
            let noisy = |count: usize| {
                let noise = [0.92, 1.11, 1.0, 1.08, 0.97][count % 5];
                // A busy chip runs a few hundredths slower.
                let busy = 1.0 + 0.08 * (count.min(units) as f64 / units as f64);
                Some(noise * busy * waves(units)(count))
            };
            assert_eq!(found(noisy), Some(units));
        }
    }

    #[test]
    fn a_gradual_rise_ends_the_flat_part_where_it_is_clear() {
        // A unit shares its time among up to two workgroups without loss, and then fairly.
        let shared = |count: usize| Some((count as f64 / 64.0).max(1.0));
        let units = found(shared).unwrap();
        assert!((64..=64 * 13 / 10).contains(&units), "{units}");
    }

    #[test]
    fn without_a_step_or_without_time_the_number_is_unknown() {
        assert_eq!(found(|_| Some(1.0)), None);
        assert_eq!(found(|_| Some(f64::NAN)), None);
        assert_eq!(found(|_| None), None);
        let mut left = 9;
        let short_of_time = |count| {
            left -= 1;
            (left > 0).then(|| waves(132)(count))
        };
        assert_eq!(found(short_of_time), None);
    }

    #[test]
    fn any_adapter_is_measured_within_its_budget() {
        let options = DeviceOptions {
            class: Some(AdapterClass::Gpu),
            ..DeviceOptions::default()
        };
        let device = Device::open(&options).unwrap();
        iterations(&device).unwrap();
        let started = Instant::now();
        let chip = measure(&device).unwrap();
        let elapsed = started.elapsed();
        // A tenth of a second where nobody else computes; the rest is for machines that share their cores.
        assert!(elapsed < 10 * BUDGET, "{elapsed:?}: {chip}");
        assert!(chip.gflops > 0.1, "{chip}");
        assert_ne!(chip.units, Some(0));
    }
}
