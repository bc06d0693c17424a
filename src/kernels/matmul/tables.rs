//! The kernels of products, by variant.

use super::super::{SUBGROUPS, binding, either, halves};
use super::{MatmulFewTextureParams, MatmulParams, MatmulRowParams, MatmulTextureParams};
use crate::gpu::limits::WORKGROUP_MEMORY;
use crate::gpu::{Binding, Kernel, Requirement, Role, Vendor};
use crate::shader;

/// 128x128 tiles in workgroup memory, 8x8 outputs a lane: the portable variant, meant for GPUs.
pub static TILED: Kernel = Kernel {
    name: "matmul",
    variant: "tiled",
    source: shader!("matmul/matmul.tiled.wgsl"),
    bindings: TILED_BINDINGS,
    params: MatmulParams::LAYOUT,
    requires: &[],
};

/// The same tiles from deeper slices, which lie in workgroup memory as quads: for GPUs that have more of it
/// than the portable floor.
pub static TILED_QUADS: Kernel = Kernel {
    name: "matmul",
    variant: "tiled_quads",
    source: shader!("matmul/matmul.tiled_quads.wgsl"),
    bindings: TILED_BINDINGS,
    params: MatmulParams::LAYOUT,
    requires: &[Requirement::Limit {
        name: WORKGROUP_MEMORY,
        at_least: 32 << 10,
    }],
};

/// 64x64 tiles, 4x4 outputs a lane: for outputs too small to make work for a whole GPU.
pub static TILED_SMALL: Kernel = Kernel {
    name: "matmul",
    variant: "tiled_small",
    source: shader!("matmul/matmul.tiled_small.wgsl"),
    bindings: TILED_BINDINGS,
    params: MatmulParams::LAYOUT,
    requires: &[],
};

/// [`TILED`] for operands of halves.
pub static TILED_F16: Kernel = Kernel {
    variant: "tiled_f16",
    bindings: HALVES_BINDINGS,
    ..TILED
};

/// [`TILED_QUADS`] for operands of halves.
pub static TILED_QUADS_F16: Kernel = Kernel {
    variant: "tiled_quads_f16",
    bindings: HALVES_BINDINGS,
    ..TILED_QUADS
};

/// Cooperative matrices of 16x16, 64x64 outputs a subgroup: for GPUs with matrix units.
pub static COOPERATIVE: Kernel = Kernel {
    variant: "cooperative",
    source: shader!("matmul/matmul.cooperative.wgsl"),
    bindings: MATRICES_BINDINGS,
    requires: &[
        Requirement::Matrices(16),
        Requirement::Limit {
            name: WORKGROUP_MEMORY,
            at_least: 32_000,
        },
        // Its sums take more registers than RDNA has: 33 to 51 of them are spilled.
        Requirement::NotOn(Vendor::Amd),
    ],
    ..TILED
};

/// The same from 32x32 outputs a subgroup.
pub static COOPERATIVE_SMALL: Kernel = Kernel {
    variant: "cooperative_small",
    source: shader!("matmul/matmul.cooperative_small.wgsl"),
    requires: &[
        Requirement::Matrices(16),
        Requirement::Limit {
            name: WORKGROUP_MEMORY,
            at_least: 21_760,
        },
    ],
    ..COOPERATIVE
};

/// [`COOPERATIVE_SMALL`] from matrices of 8x8, 16x16 outputs a subgroup.
pub static COOPERATIVE_SMALL_8X8: Kernel = Kernel {
    variant: "cooperative_small_8x8",
    requires: &[Requirement::Matrices(8)],
    ..COOPERATIVE_SMALL
};

/// [`COOPERATIVE`] from matrices of 8x8, 32x32 outputs a subgroup.
pub static COOPERATIVE_8X8: Kernel = Kernel {
    variant: "cooperative_8x8",
    requires: &[Requirement::Matrices(8)],
    ..COOPERATIVE
};

const MATRICES_BINDINGS: &[Binding] = &[
    halves("a", Role::In),
    halves("b", Role::In),
    either("aside", Role::In),
    either("output", Role::OutOrAccumulate),
    either("second", Role::OutOrUnused),
];

// The operands twice, since a shader cannot see a buffer both as words and as quads of words.
const TILED_BINDINGS: &[Binding] = &[
    binding("a", Role::In),
    binding("b", Role::In),
    binding("a_quads", Role::In),
    binding("b_quads", Role::In),
    binding("aside", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

const HALVES_BINDINGS: &[Binding] = &[
    halves("a", Role::In),
    halves("b", Role::In),
    halves("a_quads", Role::In),
    halves("b_quads", Role::In),
    either("aside", Role::In),
    either("output", Role::OutOrAccumulate),
    either("second", Role::OutOrUnused),
];

/// Operands in textures, 16x16 outputs a lane: meant for software adapters, where a storage load
/// costs as much as 150 multiply-adds.
pub static TEXTURE: Kernel = Kernel {
    name: "matmul",
    variant: "texture",
    source: shader!("matmul/matmul.texture.wgsl"),
    bindings: TEXTURE_BINDINGS,
    params: MatmulTextureParams::LAYOUT,
    requires: &[],
};

/// The same operands; a subgroup shares the rows that its lanes load, 32x64 outputs a subgroup.
pub static TEXTURE_SUBGROUP: Kernel = Kernel {
    name: "matmul",
    variant: "texture_subgroup",
    source: shader!("matmul/matmul.texture_subgroup.wgsl"),
    bindings: &[
        binding("a", Role::Texture),
        binding("b", Role::Texture),
        either("aside", Role::In),
        binding("aside_texels", Role::Texture),
        binding("output", Role::OutOrAccumulate),
        binding("second", Role::OutOrUnused),
    ],
    params: MatmulTextureParams::LAYOUT,
    requires: SUBGROUPS,
};

const TEXTURE_BINDINGS: &[Binding] = &[
    binding("a", Role::Texture),
    binding("b", Role::Texture),
    either("aside", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

/// One row times a matrix that lies as `[n, k]`, from buffers: for software adapters in decoding,
/// where staging a weight would load each element once, as this does, and then store it.
pub static ROW: Kernel = Kernel {
    name: "matmul",
    variant: "row",
    source: shader!("matmul/matmul.row.wgsl"),
    bindings: BUFFER_BINDINGS,
    params: MatmulRowParams::LAYOUT,
    requires: &[],
};

const BUFFER_BINDINGS: &[Binding] = &[
    binding("a", Role::In),
    binding("b", Role::In),
    binding("aside", Role::In),
    binding("output", Role::OutOrAccumulate),
];

/// A few rows times a matrix that lies as `[n, k]`: for GPUs in decoding.
pub static FEW: Kernel = Kernel {
    name: "matmul",
    variant: "few",
    source: shader!("matmul/matmul.few.wgsl"),
    bindings: TILED_BINDINGS,
    params: MatmulParams::LAYOUT,
    requires: &[],
};

/// [`FEW`] for operands of halves.
pub static FEW_F16: Kernel = Kernel {
    variant: "few_f16",
    bindings: HALVES_BINDINGS,
    ..FEW
};

/// The same from textures, for software adapters in decoding, where weights stay in these.
pub static FEW_TEXTURE: Kernel = Kernel {
    variant: "few_texture",
    source: shader!("matmul/matmul.few_texture.wgsl"),
    bindings: &[
        binding("a", Role::Texture),
        binding("b", Role::Texture),
        either("aside", Role::In),
        binding("output", Role::OutOrAccumulate),
        binding("second", Role::OutOrUnused),
    ],
    params: MatmulFewTextureParams::LAYOUT,
    requires: SUBGROUPS,
    ..FEW
};

/// [`FEW_TEXTURE`] of one row of whole quads, which is read where it lies.
pub static ROW_TEXTURE: Kernel = Kernel {
    variant: "row_texture",
    source: shader!("matmul/matmul.row_texture.wgsl"),
    bindings: &[
        binding("a", Role::In),
        binding("b", Role::Texture),
        either("aside", Role::In),
        binding("output", Role::OutOrAccumulate),
        binding("second", Role::OutOrUnused),
    ],
    ..FEW_TEXTURE
};

/// [`ROW_TEXTURE`] for a row of halves.
pub static ROW_TEXTURE_F16: Kernel = Kernel {
    variant: "row_texture_f16",
    bindings: &[
        halves("a", Role::In),
        binding("b", Role::Texture),
        either("aside", Role::In),
        binding("output", Role::OutOrAccumulate),
        binding("second", Role::OutOrUnused),
    ],
    ..ROW_TEXTURE
};
