//! Matrix products in the three forms that a linear layer needs, with epilogues.

use std::ops::Range;

use super::binding;
use super::matmul_stage::stage;
use super::sum::sum_partials;
use crate::gpu::plan::{Bound, word};
use crate::gpu::{AdapterClass, Dispatch, Kernel, Plan, Role, Tensor, Texture, Window};
use crate::{params, shader};

params!(MatmulParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    a_stride: u32,
    b_stride: u32,
    output_stride: u32,
});

/// 128x128 tiles in workgroup memory, 8x8 outputs a lane: the portable variant, meant for GPUs.
pub static TILED: Kernel = Kernel {
    name: "matmul",
    variant: "tiled",
    source: shader!("matmul.tiled.wgsl"),
    shared: &[
        shader!("shared/matmul_tiled_slices.wgsl"),
        shader!("shared/matmul_store_quad.wgsl"),
    ],
    // The operands twice, since a shader cannot see a buffer both as words and as quads of words.
    bindings: &[
        binding("a", Role::In),
        binding("b", Role::In),
        binding("a_quads", Role::In),
        binding("b_quads", Role::In),
        binding("residual", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: MatmulParams::LAYOUT,
};

params!(MatmulTextureParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    first_row: u32,
    first_col: u32,
    first_split: u32,
});

/// Operands in textures, 8x8 outputs a lane: meant for software adapters, where a storage load
/// costs as much as 150 multiply-adds.
pub static TEXTURE: Kernel = Kernel {
    name: "matmul",
    variant: "texture",
    source: shader!("matmul.texture.wgsl"),
    shared: &[shader!("shared/matmul_store.wgsl")],
    bindings: &[
        binding("a", Role::Texture),
        binding("b", Role::Texture),
        binding("residual", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: MatmulTextureParams::LAYOUT,
};

/// Which kernel computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// [`TILED`].
    Tiled,
    /// [`TEXTURE`].
    Texture {
        /// Longest side of a texture, a multiple of 8; a larger product takes several launches.
        side: usize,
    },
}

/// Longest side of a texture that WebGPU guarantees.
pub const TEXTURE_SIDE: usize = 8192;

impl Variant {
    /// The variant for adapters of `class` where nothing was measured.
    pub fn for_class(class: AdapterClass) -> Self {
        match class {
            AdapterClass::Gpu => Self::Tiled,
            AdapterClass::Software => Self::Texture { side: TEXTURE_SIDE },
        }
    }

    /// Longest k of one split.
    fn longest_split(self) -> usize {
        match self {
            Self::Tiled => usize::MAX,
            Self::Texture { side } => side,
        }
    }

    /// Rows and columns of the output that one workgroup computes.
    fn tile(self) -> (usize, usize) {
        match self {
            Self::Tiled => (128, 128),
            Self::Texture { .. } => (64, 8),
        }
    }

    /// A product with fewer workgroups than this leaves an adapter idle, so a long k is split.
    fn enough_workgroups(self) -> usize {
        match self {
            // Two for each unit of a large GPU.
            Self::Tiled => 128,
            Self::Texture { .. } => 64,
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

/// What happens to the product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue {
    /// It replaces the output.
    Store,
    /// It is added to the output.
    Accumulate,
    /// The output is the sum of another tensor of its shape and the product.
    Residual(Tensor),
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
/// Splits begin at multiples of this: the depth that the texture variant takes at once, and the
/// words of an aligned load of the tiled one.
const SPLIT_MULTIPLE: usize = 4;

/// Pushes `output = A B` for `form`, `output` being `[m, n]`, by the variant that suits the plan's
/// class of adapter.
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
    let variant = Variant::for_class(plan.class());
    matmul_by(
        plan,
        variant,
        Product {
            form,
            a,
            b,
            output,
            epilogue,
        },
    );
}

/// Pushes a product by a given variant.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn matmul_by(plan: &mut Plan, variant: Variant, product: Product) {
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
    let workgroups = m.div_ceil(variant.tile().0) * n.div_ceil(variant.tile().1);
    let splits = (variant.enough_workgroups() / workgroups)
        .min(k / SHORTEST_SPLIT)
        .max(1);
    // Adding up partial products has no epilogue for a residual.
    if splits == 1 || matches!(epilogue, Epilogue::Residual(_)) {
        push(
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
    push(plan, variant, parts, sizes);
    sum_partials(plan, partials, output, epilogue == Epilogue::Accumulate);
}

fn push(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes) {
    match variant {
        Variant::Tiled => push_tiled(plan, product, sizes),
        Variant::Texture { side } => push_texture(plan, product, sizes, side),
    }
}

fn push_tiled(plan: &mut Plan, product: Product, sizes: Sizes) {
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Sizes {
        m,
        n,
        k,
        k_per_split,
    } = sizes;
    let params = MatmulParams {
        m: word(m),
        n: word(n),
        k: word(k),
        k_per_split: word(k_per_split),
        a_stride: word(a.cols),
        b_stride: word(b.cols),
        output_stride: word(n),
    };
    // Bindings begin at multiples of 256 bytes, so rows are aligned where their strides are.
    let aligned = a.cols.is_multiple_of(4) && b.cols.is_multiple_of(4);
    // The binding has to hold something where there is no residual; the kernel does not read it.
    let residual = if let Epilogue::Residual(tensor) = epilogue {
        tensor
    } else {
        a
    };
    let bindings = [a, b, a, b, residual, output].map(Bound::from);
    let (tile_rows, tile_cols) = Variant::Tiled.tile();
    plan.push(
        Dispatch::new(&TILED, params, bindings)
            .constant("ALIGNED", aligned.into())
            .constant("A_TRANSPOSED", (form == Form::Tn).into())
            .constant("B_TRANSPOSED", (form == Form::Nt).into())
            .constant("ACCUMULATE", (epilogue == Epilogue::Accumulate).into())
            .constant("RESIDUAL", matches!(epilogue, Epilogue::Residual(_)).into())
            .workgroups([
                word(n.div_ceil(tile_cols)),
                word(m.div_ceil(tile_rows)),
                word(sizes.splits()),
            ])
            .flops(2 * m * n * k),
    );
}

/// One launch of the texture variant: parts of m, n and k whose operands fit textures.
#[derive(Clone, Debug)]
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
    depth: Range<usize>,
}

fn push_texture(plan: &mut Plan, product: Product, sizes: Sizes, side: usize) {
    let Sizes {
        m,
        n,
        k,
        k_per_split,
    } = sizes;
    // Whole splits in each block, or, of a k that is not split, as much as a texture holds.
    let block_depth = if k_per_split < k {
        side / k_per_split * k_per_split
    } else {
        side
    };
    assert!(block_depth > 0, "a split of {k_per_split} fits a texture");
    for depth in blocks(k, block_depth) {
        // The first block of an undivided k takes the epilogue, and the others add to it.
        let epilogue = if depth.start == 0 || k_per_split < k {
            product.epilogue
        } else {
            Epilogue::Accumulate
        };
        for rows in blocks(m, 4 * side) {
            for cols in blocks(n, 4 * side) {
                let block = Block {
                    rows: rows.clone(),
                    cols,
                    depth: depth.clone(),
                };
                push_block(
                    plan,
                    Product {
                        epilogue,
                        ..product
                    },
                    sizes,
                    &block,
                );
            }
        }
    }
}

fn blocks(len: usize, block_len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(block_len)
        .map(move |first| first..len.min(first + block_len))
}

fn push_block(plan: &mut Plan, product: Product, sizes: Sizes, block: &Block) {
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Block { rows, cols, depth } = block;
    let a_texture = stage_operand(plan, a, form != Form::Tn, depth, rows);
    let b_texture = stage_operand(plan, b, form == Form::Nt, depth, cols);
    let k_per_split = sizes.k_per_split.min(depth.len());
    let params = MatmulTextureParams {
        m: word(sizes.m),
        n: word(sizes.n),
        k: word(depth.len()),
        k_per_split: word(k_per_split),
        first_row: word(rows.start),
        first_col: word(cols.start),
        first_split: word(if sizes.splits() > 1 {
            depth.start / sizes.k_per_split
        } else {
            0
        }),
    };
    // The binding has to hold something where there is no residual; the kernel does not read it.
    let residual = if let Epilogue::Residual(tensor) = epilogue {
        tensor
    } else {
        a
    };
    let (tile_rows, tile_cols) = Variant::Texture { side: 0 }.tile();
    let splits = depth.len().div_ceil(k_per_split);
    let workgroups = [
        cols.len().div_ceil(tile_cols),
        rows.len().div_ceil(tile_rows),
        splits,
    ];
    plan.push(
        Dispatch::new(
            &TEXTURE,
            params,
            [
                a_texture.into(),
                b_texture.into(),
                residual.into(),
                output.into(),
            ],
        )
        .constant("ACCUMULATE", (epilogue == Epilogue::Accumulate).into())
        .constant("RESIDUAL", matches!(epilogue, Epilogue::Residual(_)).into())
        .workgroups(workgroups.map(word))
        .flops(2 * rows.len() * cols.len() * depth.len()),
    );
}

/// A texture with k along y.
fn stage_operand(
    plan: &mut Plan,
    tensor: Tensor,
    transposed: bool,
    depth: &Range<usize>,
    cols: &Range<usize>,
) -> Texture {
    let window = Window {
        tensor,
        transposed,
        first_row: depth.start,
        rows: depth.len(),
        first_col: cols.start,
        cols: cols.len(),
    };
    stage(plan, window)
}
