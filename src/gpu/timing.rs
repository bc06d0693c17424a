//! How long a section takes: by the device's own clock where it has one, and by the host's.

use std::time::Instant;

use super::plan::SectionId;
use super::readback::read_now;
use super::step::{Step, record_steps};
use super::{Device, Executable, GpuError, Kernel};

/// Time of one replay, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Elapsed {
    /// By the host's clock, submission and wait included, divided by the number of replays.
    pub wall_ms: f64,
    /// By the device's timestamps, where it has them.
    pub device_ms: Option<f64>,
}

/// Two timestamps: where a pass began and where it ended.
struct Timestamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
}

impl Executable {
    /// Replays a section, or its dispatches of `only`, `replays` times and waits.
    ///
    /// # Errors
    /// When the device fails.
    pub fn time(
        &self,
        device: &Device,
        section: SectionId,
        only: Option<&'static Kernel>,
        replays: u32,
    ) -> Result<Elapsed, GpuError> {
        let timestamps = Timestamps::new(device);
        let start = Instant::now();
        let mut encoder = device
            .raw
            .create_command_encoder(&wgpu::CommandEncoderDescriptor {
                label: Some("timing"),
            });
        let once: Vec<&Step> = self.steps_of(section, only).collect();
        let steps = once.repeat(replays as usize);
        let clock = timestamps.as_ref().map(|t| (&t.set, 0));
        record_steps(&mut encoder, "timing", &steps, clock);
        if let Some(Timestamps { set, resolved }) = &timestamps {
            encoder.resolve_query_set(set, 0..2, resolved, 0);
        }
        device.queue.submit([encoder.finish()]);
        device.wait()?;
        let wall_ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(replays);
        let device_ms = match timestamps {
            Some(t) => t.elapsed_ms(device)?.map(|ms| ms / f64::from(replays)),
            None => None,
        };
        Ok(Elapsed { wall_ms, device_ms })
    }
}

impl Timestamps {
    fn new(device: &Device) -> Option<Self> {
        let features = device.raw.features();
        if !features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let set = device.raw.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timing"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let resolved = device.raw.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timing"),
            size: 16,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Some(Self { set, resolved })
    }

    /// `None` where the clock stood still or ran back, as some drivers' does.
    fn elapsed_ms(&self, device: &Device) -> Result<Option<f64>, GpuError> {
        let words: Vec<u32> = read_now(device, &self.resolved, 0, 4)?;
        let ticks = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        let elapsed = ticks(2).checked_sub(ticks(0)).filter(|&ticks| ticks > 0);
        let tick_ns = f64::from(device.queue.get_timestamp_period());
        Ok(elapsed.map(|ticks| ticks as f64 * tick_ns / 1e6))
    }
}
