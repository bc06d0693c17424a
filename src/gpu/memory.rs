//! Device memory that outlives a plan: parameters, gradients, moments, batches, metrics.
//!
//! It is declared first, as data, so that plans can be built and counted without a device, and
//! allocated once.

use super::tensor::align_words;
use super::texture::{DeviceTexture, texture_sides};
use super::{Device, GpuError, wait};

/// Names one persistent buffer or texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentId(pub(super) usize);

/// The persistent buffers and textures that plans share, before they exist.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    declared: Vec<Declaration>,
}

#[derive(Clone, Debug)]
struct Declaration {
    label: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Buffer { words: usize },
    Texture { rows: usize, cols: usize },
}

impl Kind {
    fn words(self) -> usize {
        match self {
            Self::Buffer { words } => words,
            Self::Texture { rows, cols } => {
                let (width, height) = texture_sides(rows, cols);
                4 * width as usize * height as usize
            }
        }
    }
}

impl Memory {
    /// Declares a buffer of `words` 4-byte words, zero at first.
    pub fn declare(&mut self, label: impl Into<String>, words: usize) -> PersistentId {
        let words = align_words(words.max(1));
        self.add(label.into(), Kind::Buffer { words })
    }

    /// Declares a texture for a matrix of `[rows, cols]`.
    pub fn declare_texture(
        &mut self,
        label: impl Into<String>,
        rows: usize,
        cols: usize,
    ) -> PersistentId {
        self.add(label.into(), Kind::Texture { rows, cols })
    }

    fn add(&mut self, label: String, kind: Kind) -> PersistentId {
        self.declared.push(Declaration { label, kind });
        PersistentId(self.declared.len() - 1)
    }

    /// Words of one buffer or texture, padding included.
    pub fn words(&self, id: PersistentId) -> usize {
        self.declared[id.0].kind.words()
    }

    /// Rows and columns of the matrix that a texture is for.
    ///
    /// # Panics
    /// If it is a buffer: a bug of the caller.
    pub fn texture_matrix(&self, id: PersistentId) -> (usize, usize) {
        match self.declared[id.0].kind {
            Kind::Texture { rows, cols } => (rows, cols),
            Kind::Buffer { .. } => panic!("{} is no texture", self.label(id)),
        }
    }

    /// Label of one buffer or texture.
    pub fn label(&self, id: PersistentId) -> &str {
        &self.declared[id.0].label
    }

    /// Each one's label and size in bytes.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.declared
            .iter()
            .map(|d| (d.label.as_str(), d.kind.words() as u64 * 4))
    }

    /// Allocates all that was declared.
    ///
    /// # Errors
    /// When one is over a limit of the device or does not fit its memory.
    pub fn allocate(&self, device: &Device) -> Result<Buffers, GpuError> {
        let mut before_bytes = 0;
        let mut allocated = Vec::with_capacity(self.declared.len());
        for Declaration { label, kind } in &self.declared {
            let size_bytes = kind.words() as u64 * 4;
            allocated.push(match *kind {
                Kind::Buffer { .. } => {
                    Allocated::Buffer(create_buffer(device, label, size_bytes, before_bytes)?)
                }
                Kind::Texture { rows, cols } => {
                    let sides = texture_sides(rows, cols);
                    Allocated::Texture(DeviceTexture::create(device, label, sides, before_bytes)?)
                }
            });
            before_bytes += size_bytes;
        }
        Ok(Buffers { allocated })
    }
}

/// What a [`Memory`] declares, allocated.
pub struct Buffers {
    allocated: Vec<Allocated>,
}

enum Allocated {
    Buffer(wgpu::Buffer),
    Texture(DeviceTexture),
}

impl Buffers {
    pub(super) fn get(&self, id: PersistentId) -> &wgpu::Buffer {
        match &self.allocated[id.0] {
            Allocated::Buffer(buffer) => buffer,
            Allocated::Texture(_) => unreachable!("a texture is not read or written by words"),
        }
    }

    pub(super) fn texture(&self, id: PersistentId) -> &DeviceTexture {
        match &self.allocated[id.0] {
            Allocated::Texture(texture) => texture,
            Allocated::Buffer(_) => unreachable!("a plan names textures by their own ids"),
        }
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

    /// Waits until everything that was written lies on the device, and the host's copies of it are free.
    ///
    /// # Errors
    /// When the device fails.
    pub fn flush(&self, device: &Device) -> Result<(), GpuError> {
        device.queue.submit([]);
        device.wait()
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
