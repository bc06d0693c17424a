//! Copies operands of a product into textures, once for all the products that read them.

use super::binding;
use crate::gpu::dispatch::{RowCopy, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::tensor::ALIGNMENT_WORDS;
use crate::gpu::{Dispatch, Kernel, Plan, Requirement, Role, Texture, Window};
use crate::{params, shader};

params!(MatmulStageParams {
    rows: u32,
    cols: u32,
    first: u32,
    row_stride: u32,
    col_stride: u32,
});

/// Copies a window of a matrix into a texture.
pub static STAGE: Kernel = Kernel {
    name: "matmul_stage",
    variant: PORTABLE,
    source: shader!("matmul_stage.wgsl"),
    shared: &[],
    bindings: &[
        binding("input", Role::In),
        binding("staged", Role::TextureOut),
    ],
    params: MatmulStageParams::LAYOUT,
    requires: Requirement::Portable,
};

/// Texels that a workgroup writes along each side.
const WORKGROUP_SIDE: usize = 8;
/// A staged matrix is padded with zeros to a multiple of this many rows.
pub const ROWS_MULTIPLE: usize = WORKGROUP_SIDE;
/// The same for columns; a multiple of 64 words can be copied to a buffer too.
pub const COLS_MULTIPLE: usize = 64;

/// A texture of the window, padded to a multiple of [`ROWS_MULTIPLE`] rows and [`COLS_MULTIPLE`]
/// columns: the one made by an earlier call if the tensor has not been written since. The padding
/// is zeros up to the next multiple of four columns and in rows, and undefined beyond.
pub fn stage(plan: &mut Plan, window: Window) -> Texture {
    if let Some(texture) = plan.staged(&window) {
        return texture;
    }
    let rows = window.rows.next_multiple_of(ROWS_MULTIPLE);
    let cols = window.cols.next_multiple_of(COLS_MULTIPLE);
    let texture = plan.scratch_texture("staged", rows, cols);
    let stride = window.tensor.row_stride;
    let (row_stride, col_stride) = if window.transposed {
        (1, stride)
    } else {
        (stride, 1)
    };
    let first = window.first_row * row_stride + window.first_col * col_stride;
    let params = MatmulStageParams {
        rows: word(window.rows),
        cols: word(window.cols),
        first: word(first),
        row_stride: word(row_stride),
        col_stride: word(col_stride),
    };
    let groups = |texels: usize| word(texels.div_ceil(WORKGROUP_SIDE));
    let mut dispatch = Dispatch::new(&STAGE, params, [window.tensor.into(), texture.into()])
        .workgroups([groups(cols / 4), groups(rows), 1]);
    if is_copyable(&window, first) {
        dispatch = dispatch.by_copy(RowCopy {
            first,
            row_stride,
            rows,
            cols: window.cols,
        });
    }
    plan.push(dispatch);
    plan.remember_staged(window, texture);
    texture
}

/// Whether a driver can copy the window's rows: whole texels, at steps of 256 bytes, with nothing
/// to pad or to transpose. On a CPU that takes a twentieth of the kernel's time.
fn is_copyable(window: &Window, first: usize) -> bool {
    !window.transposed
        && window.rows.is_multiple_of(ROWS_MULTIPLE)
        && window.cols.is_multiple_of(4)
        && window.tensor.row_stride.is_multiple_of(ALIGNMENT_WORDS)
        && (window.tensor.offset + first).is_multiple_of(4)
}
