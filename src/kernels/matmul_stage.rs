//! Copies operands of a product into textures, once for all the products that read them.

use super::{binding, halves};
use crate::gpu::dispatch::{RowCopy, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::tensor::ALIGNMENT_WORDS;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Texture, Window};
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
    source: shader!("matmul/matmul_stage.wgsl"),
    bindings: &[
        binding("input", Role::In),
        binding("staged", Role::TextureOut),
    ],
    params: MatmulStageParams::LAYOUT,
    requires: &[],
};

/// [`STAGE`] for windows that lie transposed in memory and are whole quads there.
pub static STAGE_TRANSPOSED: Kernel = Kernel {
    variant: "transposed",
    source: shader!("matmul/matmul_stage.transposed.wgsl"),
    ..STAGE
};

/// [`STAGE`] for a matrix of halves.
pub static STAGE_F16: Kernel = Kernel {
    variant: "f16",
    source: shader!("matmul/matmul_stage.f16.wgsl"),
    bindings: &[
        halves("input", Role::In),
        binding("staged", Role::TextureOut),
    ],
    ..STAGE
};

/// [`STAGE_F16`] for windows that lie transposed in memory.
pub static STAGE_TRANSPOSED_F16: Kernel = Kernel {
    variant: "transposed_f16",
    source: shader!("matmul/matmul_stage.transposed_f16.wgsl"),
    ..STAGE_F16
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
    if let Some(known) = plan.staged(&window) {
        return known;
    }
    let (rows, cols) = padded(window.rows, window.cols);
    let texture = plan.scratch_texture("staged", rows, cols);
    stage_into(plan, window, texture);
    plan.remember_staged(window, texture);
    texture
}

/// Rows and columns of a window of `[rows, cols]` with the padding that the kernel writes.
pub fn padded(rows: usize, cols: usize) -> (usize, usize) {
    (
        rows.next_multiple_of(ROWS_MULTIPLE),
        cols.next_multiple_of(COLS_MULTIPLE),
    )
}

/// Copies a window to a texture of its [`padded`] size.
///
/// # Panics
/// If a window of halves does not begin with a quad: a bug of the caller.
pub fn stage_into(plan: &mut Plan, window: Window, texture: Texture) {
    let (rows, cols) = padded(window.rows, window.cols);
    let [row_stride, col_stride] = strides(&window);
    let first = window.first_row * row_stride + window.first_col * col_stride;
    let params = MatmulStageParams {
        rows: word(window.rows),
        cols: word(window.cols),
        first: word(first),
        row_stride: word(row_stride),
        col_stride: word(col_stride),
    };
    let kernel = kernel_for(&window);
    assert!(
        !window.tensor.is_halves() || first.is_multiple_of(4),
        "a window of whole quads: {window:?}"
    );
    let groups = |texels: usize| word(texels.div_ceil(WORKGROUP_SIDE));
    let mut dispatch = Dispatch::new(kernel, params, [window.tensor.into(), texture.into()])
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
}

/// Words from a row of the window to the next, and from a column to the next.
fn strides(window: &Window) -> [usize; 2] {
    let stride = window.tensor.row_stride;
    if window.transposed {
        [1, stride]
    } else {
        [stride, 1]
    }
}

/// The kernel that stages a window.
fn kernel_for(window: &Window) -> &'static Kernel {
    if window.tensor.is_halves() {
        return if window.transposed {
            &STAGE_TRANSPOSED_F16
        } else {
            &STAGE_F16
        };
    }
    let in_quads = window.rows | window.first_row | window.tensor.row_stride;
    if window.transposed && in_quads.is_multiple_of(4) {
        &STAGE_TRANSPOSED
    } else {
        &STAGE
    }
}

/// Whether a driver can copy the window's rows: whole texels, at steps of 256 bytes, with nothing
/// to pad or to transpose. On a CPU that takes a twentieth of the kernel's time.
fn is_copyable(window: &Window, first: usize) -> bool {
    !window.transposed
        && !window.tensor.is_halves()
        && window.rows.is_multiple_of(ROWS_MULTIPLE)
        && window.cols.is_multiple_of(4)
        && window.tensor.row_stride.is_multiple_of(ALIGNMENT_WORDS)
        && (window.tensor.offset + first).is_multiple_of(4)
}
