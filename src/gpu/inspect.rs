//! Looks into the scratch memory of an isolated plan: what checks fill and read.

use super::dispatch::Bound;
use super::readback::{read_now, read_texture_now};
use super::texture::DeviceTexture;
use super::{Device, Executable, GpuError, Tensor, Texture};

impl Executable {
    /// Whether any dispatch binds the scratch tensor, so that there is memory behind it.
    pub fn binds(&self, tensor: Tensor) -> bool {
        self.slots[tensor.storage.0 as usize].is_some()
    }

    /// Writes words to a scratch tensor of an isolated plan.
    ///
    /// # Panics
    /// If the plan never binds the tensor.
    pub fn write_scratch<T: bytemuck::NoUninit>(
        &self,
        device: &Device,
        tensor: Tensor,
        data: &[T],
    ) {
        let buffer = self.scratch_buffer(tensor);
        device
            .queue
            .write_buffer(buffer, tensor.offset as u64 * 4, bytemuck::cast_slice(data));
    }

    /// Reads a scratch tensor of an isolated plan, waiting for all submitted work: its elements, or of
    /// halves the words from the first to the last.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the plan never binds the tensor.
    pub fn read_scratch<T: bytemuck::AnyBitPattern>(
        &self,
        device: &Device,
        tensor: Tensor,
    ) -> Result<Vec<T>, GpuError> {
        let buffer = self.scratch_buffer(tensor);
        let words: Vec<T> = read_now(device, buffer, tensor.offset as u64 * 4, tensor.span())?;
        if tensor.is_halves() {
            return Ok(words);
        }
        let rows = words.chunks(tensor.row_stride.max(1));
        Ok(rows.flat_map(|row| &row[..tensor.cols]).copied().collect())
    }

    /// Fills all scratch buffers and textures with NaN, so that a missing write shows.
    pub fn poison_scratch(&self, device: &Device) {
        for buffer in &self.scratch.buffers {
            let nans = vec![f32::NAN; usize::try_from(buffer.size() / 4).unwrap_or(0)];
            device
                .queue
                .write_buffer(buffer, 0, bytemuck::cast_slice(&nans));
        }
        for DeviceTexture { texture, .. } in &self.scratch.textures {
            let size = texture.size();
            let row = vec![f32::NAN; size.width as usize * 4];
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(size.width * 16),
                rows_per_image: None,
            };
            let nans = row.repeat(size.height as usize);
            let nans = bytemuck::cast_slice(&nans);
            device
                .queue
                .write_texture(texture.as_image_copy(), nans, layout, size);
        }
    }

    /// Reads a scratch texture of an isolated plan, `[rows, cols]`, waiting for all submitted
    /// work; `cols` has to be a multiple of 64.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the plan never binds the texture.
    pub fn read_scratch_texture<T: bytemuck::AnyBitPattern>(
        &self,
        device: &Device,
        texture: Texture,
    ) -> Result<Vec<T>, GpuError> {
        let slot = self.slots[texture.storage.0 as usize].expect("the plan binds the texture");
        let whole: Vec<T> = read_texture_now(device, &self.scratch.textures[slot].texture)?;
        // The texture may be wider and higher than the matrix.
        let pitch = self.scratch.textures[slot].texture.width() as usize * 4;
        Ok(whole
            .chunks_exact(pitch)
            .take(texture.rows)
            .flat_map(|row| &row[..texture.cols])
            .copied()
            .collect())
    }

    fn scratch_buffer(&self, tensor: Tensor) -> &wgpu::Buffer {
        let slot = self.slots[tensor.storage.0 as usize].expect("the plan binds the tensor");
        &self.scratch.buffers[slot]
    }

    /// Reads what a dispatch binds in an isolated plan, waiting for all submitted work.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the plan never binds it.
    pub fn read_bound(&self, device: &Device, bound: Bound) -> Result<Vec<u32>, GpuError> {
        match bound {
            Bound::Tensor(tensor) => self.read_scratch(device, tensor),
            Bound::Texture(texture) => self.read_scratch_texture(device, texture),
        }
    }
}
