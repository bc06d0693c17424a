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
use super::half::{halve_into, widen};
use super::sum::sum_partials;
use super::{SUBGROUPS, binding, either, halves};
use crate::gpu::limits::WORKGROUP_MEMORY;
use crate::gpu::{Binding, Elements, Kernel, Plan, Requirement, Role, Tensor, Vendor};
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
    either("other", Role::In),
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
    binding("other", Role::In),
    binding("output", Role::OutOrAccumulate),
    binding("second", Role::OutOrUnused),
];

const HALVES_BINDINGS: &[Binding] = &[
    halves("a", Role::In),
    halves("b", Role::In),
    halves("a_quads", Role::In),
    halves("b_quads", Role::In),
    either("aside", Role::In),
    either("other", Role::In),
    either("output", Role::OutOrAccumulate),
    either("second", Role::OutOrUnused),
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
        either("aside", Role::In),
        either("other", Role::In),
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
    either("aside", Role::In),
    either("other", Role::In),
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
    /// [`TILED_F16`].
    TiledF16,
    /// [`TILED_QUADS_F16`].
    TiledQuadsF16,
    /// [`COOPERATIVE`].
    Cooperative,
    /// [`COOPERATIVE_SMALL`].
    CooperativeSmall,
    /// [`COOPERATIVE_8X8`].
    Cooperative8x8,
    /// [`COOPERATIVE_SMALL_8X8`].
    CooperativeSmall8x8,
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
            Self::TiledF16 => &TILED_F16,
            Self::TiledQuadsF16 => &TILED_QUADS_F16,
            Self::Cooperative => &COOPERATIVE,
            Self::CooperativeSmall => &COOPERATIVE_SMALL,
            Self::Cooperative8x8 => &COOPERATIVE_8X8,
            Self::CooperativeSmall8x8 => &COOPERATIVE_SMALL_8X8,
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
            Self::Tiled | Self::TiledQuads | Self::TiledF16 | Self::TiledQuadsF16 => (128, 128),
            Self::Cooperative => (128, 128),
            Self::TiledSmall | Self::CooperativeSmall | Self::Cooperative8x8 => (64, 64),
            Self::CooperativeSmall8x8 => (32, 32),
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

impl Variant {
    /// Whether it reads operands of halves where they lie, and stores halves too.
    pub fn is_of_halves(self) -> bool {
        self.takes_matrices() || matches!(self, Self::TiledF16 | Self::TiledQuadsF16)
    }

    /// Whether it computes by cooperative matrices.
    fn takes_matrices(self) -> bool {
        matches!(
            self,
            Self::Cooperative
                | Self::CooperativeSmall
                | Self::Cooperative8x8
                | Self::CooperativeSmall8x8
        )
    }

    /// What its operands consist of; those that read copies in textures take both.
    pub fn operands(self) -> Elements {
        if self.is_of_halves() {
            Elements::Halves
        } else {
            Elements::Words
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

/// A product `output = A B` for `form`, `output` being `[m, n]`: of words to words, or of halves to either,
/// where what an epilogue reads and writes beside the output consists of what the output does.
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
/// Splits begin at multiples of this: the halves of an aligned load of the matrices' variants, twice the
/// words of one of the tiled variants.
const SPLIT_MULTIPLE: usize = 8;

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
    if output.is_halves() && !recipe.variant.is_of_halves() {
        return by_way_of_words(plan, recipe, product);
    }
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

/// A product to halves by a variant that stores words, which are rounded in a step of their own: for
/// software adapters, whose kernels of products take long to compile.
fn by_way_of_words(plan: &mut Plan, recipe: Recipe, product: Product) {
    let output = product.output;
    let words = |plan: &mut Plan| plan.scratch("product", output.rows, output.cols);
    // Those that read gates from textures take them from halves as well.
    let read = |plan: &mut Plan, halves| match recipe.variant {
        Variant::TextureSubgroup { .. } => halves,
        _ => widen(plan, halves),
    };
    let mut beside = None;
    let epilogue = match product.epilogue {
        Epilogue::Gate { gate, hidden } => {
            let in_words = words(plan);
            beside = Some((in_words, hidden));
            let gate = read(plan, gate);
            let hidden = in_words;
            Epilogue::Gate { gate, hidden }
        }
        Epilogue::GateBackward { gate, up, d_up } => {
            let in_words = words(plan);
            beside = Some((in_words, d_up));
            let [gate, up] = [gate, up].map(|t| read(plan, t));
            let d_up = in_words;
            Epilogue::GateBackward { gate, up, d_up }
        }
        other => other,
    };
    let in_words = words(plan);
    let product = Product {
        output: in_words,
        epilogue,
        ..product
    };
    matmul_by(plan, recipe, product);
    halve_into(plan, in_words, None, output);
    if let Some((in_words, halves)) = beside {
        halve_into(plan, in_words, None, halves);
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
    let is_sum_of_parts = epilogue.is_linear_in_parts() && !output.is_halves();
    if splits == 1 || !is_sum_of_parts || !output.is_dense() {
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
