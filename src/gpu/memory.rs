//! Device memory that outlives a plan: parameters, gradients, moments, batches, metrics.
//!
//! It is declared first, as data, so that plans can be built and counted without a device, and
//! allocated once.

use super::tensor::align_words;
use super::{Device, GpuError, wait};

/// Names one persistent buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentId(pub(super) usize);

/// The persistent buffers that plans share, before they exist.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    declared: Vec<Declaration>,
}

#[derive(Clone, Debug)]
struct Declaration {
    label: String,
    words: usize,
}

impl Memory {
    /// Declares a buffer of `words` 4-byte words, zero at first.
    pub fn declare(&mut self, label: impl Into<String>, words: usize) -> PersistentId {
        self.declared.push(Declaration {
            label: label.into(),
            words: align_words(words.max(1)),
        });
        PersistentId(self.declared.len() - 1)
    }

    /// Words of one buffer, padding included.
    pub fn words(&self, id: PersistentId) -> usize {
        self.declared[id.0].words
    }

    /// Label of one buffer.
    pub fn label(&self, id: PersistentId) -> &str {
        &self.declared[id.0].label
    }

    /// Each buffer's label and size in bytes.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.declared
            .iter()
            .map(|d| (d.label.as_str(), d.words as u64 * 4))
    }

    /// Allocates every declared buffer.
    ///
    /// # Errors
    /// When one is over a limit of the device or does not fit its memory.
    pub fn allocate(&self, device: &Device) -> Result<Buffers, GpuError> {
        let mut before_bytes = 0;
        let mut buffers = Vec::with_capacity(self.declared.len());
        for declared in &self.declared {
            let size_bytes = declared.words as u64 * 4;
            buffers.push(create_buffer(
                device,
                &declared.label,
                size_bytes,
                before_bytes,
            )?);
            before_bytes += size_bytes;
        }
        Ok(Buffers { buffers })
    }
}

/// The allocated buffers of a [`Memory`].
pub struct Buffers {
    buffers: Vec<wgpu::Buffer>,
}

impl Buffers {
    pub(super) fn get(&self, id: PersistentId) -> &wgpu::Buffer {
        &self.buffers[id.0]
    }

    /// Writes words to `id` from word `first` on, before anything submitted later runs.
    pub fn write<T: bytemuck::NoUninit>(
        &self,
        device: &Device,
        id: PersistentId,
        first: usize,
        data: &[T],
    ) {
        device
            .queue
            .write_buffer(self.get(id), first as u64 * 4, bytemuck::cast_slice(data));
    }

    /// Reads `len` words of `id` from word `first` on, waiting for all submitted work.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read<T: bytemuck::AnyBitPattern>(
        &self,
        device: &Device,
        id: PersistentId,
        first: usize,
        len: usize,
    ) -> Result<Vec<T>, GpuError> {
        super::readback::read_now(device, self.get(id), first as u64 * 4, len)
    }
}

/// Creates a storage buffer that can be copied from and to.
pub(super) fn create_buffer(
    device: &Device,
    label: &str,
    size_bytes: u64,
    before_bytes: u64,
) -> Result<wgpu::Buffer, GpuError> {
    let limit_bytes = device.limits().max_buffer_size;
    if size_bytes > limit_bytes {
        let label = label.to_owned();
        return Err(GpuError::OverLimit {
            label,
            size_bytes,
            limit_bytes,
            limit: "max_buffer_size",
        });
    }
    let scope = device.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = device.raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: size_bytes,
        usage: wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    match wait::for_answer(scope.pop()) {
        None => Ok(buffer),
        Some(_) => Err(GpuError::OutOfMemory {
            label: label.to_owned(),
            size_bytes,
            before_bytes,
        }),
    }
}
