//! Textures of matrices: how large they are, and how they come about.

use super::{Device, GpuError, wait};

/// Longest side of a texture that WebGPU guarantees.
pub const TEXTURE_SIDE: usize = 8192;

/// Texels of 16 bytes to which a texture's rows must not come out even: rows whose starts are a
/// power of two apart compete for the same few places in a CPU's caches. On a software adapter a
/// product of 1024x1024x1024 takes a quarter less time with the padding.
const PITCH_TEXELS: u32 = 128;
/// Texels that are added to such a row: 256 bytes, as copies to buffers want.
///
/// No side is a power of two, since llvmpipe compiles a shader anew, for seconds, for each
/// combination of textures whose width or height is one or is none.
const PITCH_PADDING: u32 = 16;

/// Heights are multiples of this: rows of the tallest tile that a kernel reads without guards.
const TILE_ROWS: usize = 32;

/// Width, in texels of four elements, and height of a texture for a matrix of `[rows, cols]`.
///
/// # Panics
/// If a side is over `u32`.
pub(super) fn texture_sides(rows: usize, cols: usize) -> (u32, u32) {
    let mut width = u32::try_from(cols.div_ceil(4)).expect("texture width fits u32");
    let mut height =
        u32::try_from(rows.next_multiple_of(TILE_ROWS)).expect("texture height fits u32");
    let fits = |side: u32| side as usize <= TEXTURE_SIDE;
    while (width.is_multiple_of(PITCH_TEXELS) || width.is_power_of_two())
        && fits(width + PITCH_PADDING)
    {
        width += PITCH_PADDING;
    }
    if height.is_power_of_two() && fits(height + 1) {
        height += 1;
    }
    (width, height)
}

/// A texture with the view that shaders bind.
pub(super) struct DeviceTexture {
    pub(super) texture: wgpu::Texture,
    pub(super) view: wgpu::TextureView,
}

impl DeviceTexture {
    /// Creates one of so many texels along each side.
    pub(super) fn create(
        device: &Device,
        label: &str,
        (width, height): (u32, u32),
        before_bytes: u64,
    ) -> Result<Self, GpuError> {
        let scope = device.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let texture = device.raw.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d {
                width,
                height,
                depth_or_array_layers: 1,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Float,
            usage: wgpu::TextureUsages::STORAGE_BINDING
                | wgpu::TextureUsages::COPY_SRC
                | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        if wait::for_answer(scope.pop()).is_some() {
            return Err(GpuError::OutOfMemory {
                label: label.to_owned(),
                size_bytes: u64::from(width) * u64::from(height) * 16,
                before_bytes,
            });
        }
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        Ok(Self { texture, view })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_texture_holds_its_matrix_within_the_limit_and_no_side_is_a_power_of_two() {
        for rows in [8, 16, 128, 1000, 4096, 8184, 8192] {
            for cols in [64, 128, 192, 256, 512, 1344, 8192, 32_704, 32_768] {
                let (width, height) = texture_sides(rows, cols);
                let sides = [(width, cols / 4), (height, rows)];
                for (side, needed) in sides.map(|(s, needed)| (s as usize, needed)) {
                    assert!((needed..=TEXTURE_SIDE).contains(&side), "{rows}x{cols}");
                    let odd = !side.is_power_of_two() || side == TEXTURE_SIDE;
                    assert!(odd, "{rows}x{cols}: {side}");
                }
                assert!(
                    height as usize >= rows.next_multiple_of(TILE_ROWS),
                    "{rows} in tiles"
                );
                assert!(width % 16 == 0, "rows of {cols} can be copied to buffers");
            }
        }
    }
}
