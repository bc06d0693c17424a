//! Brings results to the host: at once for tests and checkpoints, a step late for training.

use std::collections::VecDeque;
use std::sync::mpsc;

use super::{Device, GpuError, wait};

/// Reads `len` words from byte `offset` of `buffer`, waiting for all submitted work.
pub(super) fn read_now<T: bytemuck::AnyBitPattern>(
    device: &Device,
    buffer: &wgpu::Buffer,
    offset: u64,
    len: usize,
) -> Result<Vec<T>, GpuError> {
    read_copy(device, len, |encoder, staging| {
        encoder.copy_buffer_to_buffer(buffer, offset, staging, 0, len as u64 * 4);
    })
}

/// Reads an `rgba32float` texture, whose rows have to be a multiple of 256 bytes.
pub(super) fn read_texture_now<T: bytemuck::AnyBitPattern>(
    device: &Device,
    texture: &wgpu::Texture,
) -> Result<Vec<T>, GpuError> {
    let size = texture.size();
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(size.width * 16),
        rows_per_image: None,
    };
    read_copy(
        device,
        size.width as usize * 4 * size.height as usize,
        |encoder, staging| {
            let target = wgpu::TexelCopyBufferInfo {
                buffer: staging,
                layout,
            };
            encoder.copy_texture_to_buffer(texture.as_image_copy(), target, size);
        },
    )
}

/// Reads `len` words that `copy` brings to a staging buffer.
fn read_copy<T: bytemuck::AnyBitPattern>(
    device: &Device,
    len: usize,
    copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
) -> Result<Vec<T>, GpuError> {
    let staging = create_staging(device, len as u64 * 4);
    let mut encoder = device
        .raw
        .create_command_encoder(&wgpu::CommandEncoderDescriptor {
            label: Some("read_now"),
        });
    copy(&mut encoder, &staging);
    device.queue.submit([encoder.finish()]);
    let (sender, receiver) = mpsc::channel();
    staging
        .slice(..)
        .map_async(wgpu::MapMode::Read, move |result| {
            // The receiver waits below; it can only be gone if this thread panicked.
            let _ = sender.send(result);
        });
    device.wait()?;
    take(&staging, &receiver, len)
}

fn create_staging(device: &Device, size_bytes: u64) -> wgpu::Buffer {
    device.raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some("readback"),
        size: size_bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

type MapResult = Result<(), wgpu::BufferAsyncError>;

fn take<T: bytemuck::AnyBitPattern>(
    staging: &wgpu::Buffer,
    receiver: &mpsc::Receiver<MapResult>,
    len: usize,
) -> Result<Vec<T>, GpuError> {
    let failed = |message: String| GpuError::Device(message);
    wait::for_callback(receiver)?.map_err(|e| failed(format!("read-back failed: {e}")))?;
    let view = staging
        .slice(..)
        .get_mapped_range()
        .map_err(|e| failed(e.to_string()))?;
    let data = bytemuck::pod_collect_to_vec::<u8, u8>(&view);
    drop(view);
    staging.unmap();
    Ok(data
        .chunks_exact(4)
        .take(len)
        .map(bytemuck::pod_read_unaligned)
        .collect())
}

/// A ring of staging buffers: a result is copied out at the end of the submission that makes it and
/// taken later, so that the device never waits for the host.
pub struct Readback {
    words: usize,
    idle: Vec<wgpu::Buffer>,
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    receiver: mpsc::Receiver<MapResult>,
}

impl Readback {
    /// A ring that reads `words` 4-byte words at a time.
    pub fn new(words: usize) -> Self {
        Self {
            words,
            idle: Vec::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Number of results that were asked for and not yet taken.
    pub fn pending(&self) -> usize {
        self.in_flight.len()
    }

    /// A buffer that is free to take a result.
    pub(super) fn staging(&mut self, device: &Device) -> wgpu::Buffer {
        let free = self.idle.pop();
        free.unwrap_or_else(|| create_staging(device, self.words as u64 * 4))
    }

    /// Number of words of a result.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Expects a result in `staging` once `submission` is done.
    pub(super) fn expect(&mut self, staging: wgpu::Buffer, submission: wgpu::SubmissionIndex) {
        let (sender, receiver) = mpsc::channel();
        staging
            .slice(..)
            .map_async(wgpu::MapMode::Read, move |result| {
                let _ = sender.send(result);
            });
        self.in_flight.push_back(InFlight {
            staging,
            submission,
            receiver,
        });
    }

    /// Takes the oldest result, waiting for its submission only; `None` if none was asked for.
    ///
    /// # Errors
    /// When the device fails.
    pub fn take<T: bytemuck::AnyBitPattern>(
        &mut self,
        device: &Device,
    ) -> Result<Option<Vec<T>>, GpuError> {
        let Some(oldest) = self.in_flight.pop_front() else {
            return Ok(None);
        };
        wait::for_submission(device, oldest.submission)?;
        let data = take(&oldest.staging, &oldest.receiver, self.words)?;
        self.idle.push(oldest.staging);
        Ok(Some(data))
    }
}
