//! Device time of each dispatch of a submission: by timestamps where the adapter has them, or else
//! by waiting for each dispatch alone.

use std::time::Instant;

use super::readback::read_now;
use super::step::{Step, record_steps};
use super::{Device, GpuError, wait};

/// When one dispatch ran on the device.
#[derive(Clone, Debug)]
pub struct DispatchTime {
    /// Where in the model it belongs, and its kernel: `scope/kernel.variant`.
    pub label: String,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// Floating-point operations of the mathematics.
    pub flops: u64,
    /// Microseconds from the first dispatch's start to its own.
    pub start_us: f64,
    /// Microseconds that it took.
    pub duration_us: f64,
}

/// Timestamps in one query set at most: WebGPU allows 4096.
const TIMESTAMPS_OF_A_SET: u32 = 4096;

/// Dispatches recorded so far, each in a pass of its own.
pub(super) struct Profile {
    recorded: Vec<DispatchTime>,
    /// Two timestamps a dispatch; none where the adapter has no clock.
    sets: Vec<wgpu::QuerySet>,
    /// Timestamps of the last set that are not written yet.
    free: u32,
    has_clock: bool,
    began: Instant,
}

impl Profile {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            recorded: Vec::new(),
            sets: Vec::new(),
            free: 0,
            has_clock: device
                .raw
                .features()
                .contains(wgpu::Features::TIMESTAMP_QUERY),
            began: Instant::now(),
        }
    }

    /// Records one dispatch. Without a clock it is submitted, and waited for, at once.
    pub(super) fn record(
        &mut self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
    ) {
        let mut time = step.untimed();
        if self.has_clock {
            if self.free == 0 {
                self.sets.push(new_set(device));
                self.free = TIMESTAMPS_OF_A_SET;
            }
            let set = &self.sets[self.sets.len() - 1];
            let clock = (set, TIMESTAMPS_OF_A_SET - self.free);
            record_steps(encoder, "profile", &[step], Some(clock));
            self.free -= 2;
        } else {
            finish(device, encoder);
            time.start_us = self.began.elapsed().as_secs_f64() * 1e6;
            record_steps(encoder, "profile", &[step], None);
            finish(device, encoder);
            time.duration_us = self.began.elapsed().as_secs_f64() * 1e6 - time.start_us;
        }
        self.recorded.push(time);
    }

    /// The times, once everything was submitted.
    pub(super) fn times(mut self, device: &Device) -> Result<Vec<DispatchTime>, GpuError> {
        let mut ticks = Vec::new();
        for set in &self.sets {
            ticks.extend(read_set(device, set)?);
        }
        let tick_us = f64::from(device.queue.get_timestamp_period()) / 1e3;
        let first = ticks.first().copied().unwrap_or(0);
        for (time, pair) in self.recorded.iter_mut().zip(ticks.chunks_exact(2)) {
            // Some drivers' clocks run back by a tick between passes.
            time.start_us = pair[0].saturating_sub(first) as f64 * tick_us;
            time.duration_us = pair[1].saturating_sub(pair[0]) as f64 * tick_us;
        }
        Ok(self.recorded)
    }
}

fn new_set(device: &Device) -> wgpu::QuerySet {
    device.raw.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("profile"),
        ty: wgpu::QueryType::Timestamp,
        count: TIMESTAMPS_OF_A_SET,
    })
}

/// Submits what was recorded and waits; a failure of the device shows at the end of the step.
fn finish(device: &Device, encoder: &mut wgpu::CommandEncoder) {
    let descriptor = wgpu::CommandEncoderDescriptor {
        label: Some("profile"),
    };
    let next = device.raw.create_command_encoder(&descriptor);
    let full = std::mem::replace(encoder, next);
    device.queue.submit([full.finish()]);
    let _ = wait::for_all(device);
}

/// All timestamps of a set in ticks, those never written included.
fn read_set(device: &Device, set: &wgpu::QuerySet) -> Result<Vec<u64>, GpuError> {
    let resolved = device.raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some("profile"),
        size: u64::from(TIMESTAMPS_OF_A_SET) * 8,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let descriptor = wgpu::CommandEncoderDescriptor {
        label: Some("profile"),
    };
    let mut encoder = device.raw.create_command_encoder(&descriptor);
    encoder.resolve_query_set(set, 0..TIMESTAMPS_OF_A_SET, &resolved, 0);
    device.queue.submit([encoder.finish()]);
    read_now(device, &resolved, 0, TIMESTAMPS_OF_A_SET as usize * 2).map(|words: Vec<u32>| {
        words
            .chunks_exact(2)
            .map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32)
            .collect()
    })
}
