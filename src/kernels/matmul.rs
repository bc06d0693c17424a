//! Matrix products in the three forms that a linear layer needs, with epilogues.

mod epilogue;
mod joined;
mod launch;
mod recipe;
mod variants;

use std::ops::Range;

pub use epilogue::Epilogue;
pub use joined::{matmul_sum, matmul_sum_by};
pub use recipe::{Recipe, UnknownRecipe};
pub use variants::Use;

use super::family::{choose, unmet};
use super::sum::sum_partials;
use super::{SUBGROUPS, binding};
use crate::gpu::limits::WORKGROUP_MEMORY;
use crate::gpu::{Binding, Kernel, Plan, Requirement, Role, Tensor};
use crate::{params, shader};

params!(MatmulParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    a_stride: u32,
    b_stride: u32,
    output_stride: u32,
    time: u32,
    head_dim: u32,
});

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

// The operands twice, since a shader cannot see a buffer both as words and as quads of words.
const TILED_BINDINGS: &[Binding] = &[
    binding("a", Role::In),
    binding("b", Role::In),
    binding("a_quads", Role::In),
    binding("b_quads", Role::In),
    binding("aside", Role::In),
    binding("other", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

params!(MatmulTextureParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    first_row: u32,
    first_col: u32,
    first_split: u32,
    a_first_quad: u32,
    output_stride: u32,
    epilogue: u32,
    time: u32,
    head_dim: u32,
});

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
        binding("aside", Role::In),
        binding("other", Role::In),
        binding("aside_texels", Role::Texture),
        binding("other_texels", Role::Texture),
        binding("output", Role::OutOrAccumulate),
        binding("second", Role::OutOrUnused),
    ],
    params: MatmulTextureParams::LAYOUT,
    requires: SUBGROUPS,
};

const TEXTURE_BINDINGS: &[Binding] = &[
    binding("a", Role::Texture),
    binding("b", Role::Texture),
    binding("aside", Role::In),
    binding("other", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

params!(MatmulRowParams {
    m: u32,
    n: u32,
    k: u32,
    b_stride: u32,
    output_stride: u32,
    epilogue: u32,
    time: u32,
    head_dim: u32,
});

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
    binding("other", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

/// Which kernel computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// [`TILED`].
    Tiled,
    /// [`TILED_QUADS`].
    TiledQuads,
    /// [`TILED_SMALL`].
    TiledSmall,
    /// [`TEXTURE`].
    Texture {
        /// Longest side of a texture, a multiple of 8; a larger product takes several launches.
        side: usize,
    },
    /// [`TEXTURE_SUBGROUP`].
    TextureSubgroup {
        /// As for `Texture`.
        side: usize,
    },
    /// [`ROW`], for products of one row in the form `Nt`.
    Row,
}

pub use crate::gpu::plan::TEXTURE_SIDE;

impl Variant {
    /// Its table entry.
    pub fn kernel(self) -> &'static Kernel {
        match self {
            Self::Tiled => &TILED,
            Self::TiledQuads => &TILED_QUADS,
            Self::TiledSmall => &TILED_SMALL,
            Self::Texture { .. } => &TEXTURE,
            Self::TextureSubgroup { .. } => &TEXTURE_SUBGROUP,
            Self::Row => &ROW,
        }
    }

    /// Longest k of one split.
    fn longest_split(self) -> usize {
        match self {
            Self::Texture { side } | Self::TextureSubgroup { side } => side,
            _ => usize::MAX,
        }
    }

    /// Rows and columns of the output that one workgroup computes.
    fn tile(self) -> (usize, usize) {
        match self {
            Self::Tiled | Self::TiledQuads => (128, 128),
            Self::TiledSmall => (64, 64),
            Self::Texture { .. } => (64, 32),
            Self::TextureSubgroup { .. } => (32, 64),
            Self::Row => (1, 64),
        }
    }

    /// A product with fewer workgroups than this leaves an adapter idle, so a long k is split. On
    /// a software adapter a core takes a workgroup at a time, and adding up the parts is dear.
    fn enough_workgroups(self) -> usize {
        match self {
            Self::Texture { .. } | Self::TextureSubgroup { .. } => 8,
            Self::Row => 1,
            // Two for each unit of a large GPU.
            _ => 128,
        }
    }
}

/// Which operand lies transposed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `A [m, k]`, `B [k, n]`: the gradient of a linear layer's input.
    Nn,
    /// `A [m, k]`, `B [n, k]`: a linear layer forward.
    Nt,
    /// `A [k, m]`, `B [k, n]`: the gradient of a linear layer's weight.
    Tn,
}

/// A product `output = A B` for `form`, `output` being `[m, n]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// How the operands lie in memory.
    pub form: Form,
    /// The left operand.
    pub a: Tensor,
    /// The right operand.
    pub b: Tensor,
    /// Where the product goes.
    pub output: Tensor,
    /// How it goes there.
    pub epilogue: Epilogue,
}

/// Sizes of a product, and the part of k that one split takes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    m: usize,
    n: usize,
    k: usize,
    k_per_split: usize,
}

impl Sizes {
    fn splits(&self) -> usize {
        self.k.div_ceil(self.k_per_split)
    }
}

/// Shortest k of a split: shorter ones cost more to add up than they win.
const SHORTEST_SPLIT: usize = 256;
/// Splits begin at multiples of this: the words of an aligned load of the tiled variant, and twice
/// the depth that the texture variants take at once.
const SPLIT_MULTIPLE: usize = 4;

/// Pushes `output = A B` for `form`, `output` being `[m, n]`, by the variant that [`choose`]
/// takes.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn matmul(
    plan: &mut Plan,
    form: Form,
    a: Tensor,
    b: Tensor,
    output: Tensor,
    epilogue: Epilogue,
) {
    let k = if form == Form::Tn { a.rows } else { a.cols };
    let product = Product {
        form,
        a,
        b,
        output,
        epilogue,
    };
    let recipe = choose(plan, &Use::of(&product, k));
    matmul_by(plan, recipe, product);
}

/// Whether every variant computes a product of depth `k` in one launch, as the epilogues need that
/// are more than a sum.
pub fn takes_any_epilogue(k: usize) -> bool {
    k <= TEXTURE_SIDE
}

/// Pushes a product by a given variant or recipe, in blocks of rows where an operand is larger than a
/// binding or the whole would take longer than a driver's watchdog allows.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn matmul_by(plan: &mut Plan, by: impl Into<Recipe>, product: Product) {
    let recipe = by.into();
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let block = |tensor: Tensor, rows: &Range<usize>| tensor.slice_rows(rows.start, rows.len());
    if form == Form::Tn {
        // Rows are what is added up: every block but the first adds to the output.
        for rows in plan.row_blocks_of(&[a, b], 1, 2 * a.cols * b.cols) {
            let part = Product {
                a: block(a, &rows),
                b: block(b, &rows),
                epilogue: if rows.start == 0 {
                    epilogue
                } else {
                    Epilogue::Accumulate
                },
                ..product
            };
            push_rows(plan, recipe, part);
        }
        return;
    }
    let step = epilogue.row_step();
    for rows in plan.row_blocks_of(&[a, output], step, 2 * a.cols * output.cols) {
        let part = Product {
            a: block(a, &rows),
            output: block(output, &rows),
            epilogue: epilogue.rows(&rows),
            ..product
        };
        push_rows(plan, recipe, part);
    }
}

/// A product whose operands can all be bound.
fn push_rows(plan: &mut Plan, recipe: Recipe, product: Product) {
    let variant = recipe.variant;
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let (m, k) = if form == Form::Tn {
        (a.cols, a.rows)
    } else {
        (a.rows, a.cols)
    };
    let (b_k, n) = if form == Form::Nt {
        (b.cols, b.rows)
    } else {
        (b.rows, b.cols)
    };
    assert_eq!(
        (k, m, n),
        (b_k, output.rows, output.cols),
        "matmul {form:?} of {a:?} and {b:?}"
    );
    epilogue.check(output);
    let unmet = unmet(&Use::of(&product, k), recipe);
    assert_eq!(unmet, None, "{recipe} of {product:?}");
    let splits = recipe.splits(m, n, k);
    // Adding up partial products has no such epilogue, and writes no view with gaps.
    if splits == 1 || !epilogue.is_linear_in_parts() || !output.is_dense() {
        launch::push(
            plan,
            variant,
            product,
            Sizes {
                m,
                n,
                k,
                k_per_split: k,
            },
        );
        return;
    }
    let k_per_split = k
        .div_ceil(splits)
        .next_multiple_of(SPLIT_MULTIPLE)
        .min(variant.longest_split());
    let sizes = Sizes {
        m,
        n,
        k,
        k_per_split,
    };
    let partials = plan.scratch("matmul_splits", sizes.splits(), m * n);
    let parts = Product {
        output: partials.reshape(sizes.splits() * m, n),
        epilogue: Epilogue::Store,
        ..product
    };
    launch::push(plan, variant, parts, sizes);
    sum_partials(plan, partials, output, epilogue == Epilogue::Accumulate);
}
