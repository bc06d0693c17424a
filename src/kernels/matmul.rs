//! Matrix products in the three forms that a linear layer needs, with epilogues.

mod epilogue;
mod launch;
mod recipe;
mod tables;
mod variants;

use std::ops::Range;

pub use epilogue::Epilogue;
pub use recipe::{Recipe, UnknownRecipe};
pub use tables::*;
pub use variants::Use;

use super::family::{choose, unmet};
use super::half::{halve_into, widen};
use super::sum::Sums;
use super::swiglu;
use crate::gpu::{Elements, Kernel, Plan, Tensor};
use crate::params;

params!(MatmulParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    a_stride: u32,
    b_stride: u32,
    output_stride: u32,
    second_stride: u32,
    time: u32,
    head_dim: u32,
    boundary: u32,
});
params!(MatmulTextureParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    first_row: u32,
    first_col: u32,
    first_split: u32,
    output_stride: u32,
    second_stride: u32,
    epilogue: u32,
    time: u32,
    head_dim: u32,
    boundary: u32,
});
params!(MatmulRowParams {
    m: u32,
    n: u32,
    k: u32,
    b_stride: u32,
    output_stride: u32,
    epilogue: u32,
    time: u32,
    head_dim: u32,
    boundary: u32,
});

params!(MatmulFewTextureParams {
    m: u32,
    n: u32,
    k: u32,
    first_col: u32,
    output_stride: u32,
    second_stride: u32,
    time: u32,
    head_dim: u32,
    boundary: u32,
});

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
    /// [`FEW`], for the form `Nt`.
    Few,
    /// [`FEW_F16`], for the form `Nt`.
    FewF16,
    /// [`FEW_TEXTURE`], for the form `Nt`.
    FewTexture,
}

pub use crate::gpu::plan::TEXTURE_SIDE;

/// Rows that a workgroup of the variants for a few rows takes where there are several.
const FEW_ROWS: usize = 4;

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
            Self::Few => &FEW,
            Self::FewF16 => &FEW_F16,
            Self::FewTexture => &FEW_TEXTURE,
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
            Self::Few | Self::FewF16 => (FEW_ROWS, 4),
            Self::FewTexture => (FEW_ROWS, 8),
        }
    }

    /// A product with fewer workgroups than this leaves an adapter idle, so a long k is split: `gpu`
    /// unless the variant is meant for software adapters, on which a core takes a workgroup at a time
    /// and adding up the parts is dear.
    fn enough_workgroups(self, gpu: usize) -> usize {
        match self {
            Self::Texture { .. } | Self::TextureSubgroup { .. } => 8,
            Self::Row | Self::Few | Self::FewF16 | Self::FewTexture => 1,
            _ => gpu,
        }
    }
}

impl Variant {
    /// Whether it reads operands of halves where they lie, and stores halves too.
    pub fn is_of_halves(self) -> bool {
        let by_lanes = matches!(self, Self::TiledF16 | Self::TiledQuadsF16 | Self::FewF16);
        by_lanes || self.takes_matrices()
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

    /// Whether it stores a gate and its up from one product of these sizes, in which each lane computes
    /// columns of both.
    fn pairs(self, [_, n, k]: [usize; 3]) -> bool {
        match self {
            Self::Texture { side } | Self::TextureSubgroup { side } => {
                n.is_multiple_of(8) && n <= 4 * side && k <= side
            }
            Self::Row => false,
            Self::FewTexture => n.is_multiple_of(4) && n <= TEXTURE_SIDE,
            _ => n.is_multiple_of(4),
        }
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

/// A product `output = A B` for `form`, `output` being `[m, n]` or what the epilogue makes of that: of words to
/// words, or of halves to either, where what an epilogue reads and writes beside the output consists of what
/// the output does.
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

impl Product {
    /// m, n and k.
    fn sizes(&self) -> [usize; 3] {
        let (m, k) = match self.form {
            Form::Tn => (self.a.cols, self.a.rows),
            _ => (self.a.rows, self.a.cols),
        };
        let n = match self.form {
            Form::Nt => self.b.rows,
            _ => self.b.cols,
        };
        [m, n, k]
    }
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
    let product = Product {
        form,
        a,
        b,
        output,
        epilogue,
    };
    let mut sums = Sums::default();
    matmul_before(plan, product, &mut sums);
    sums.flush(plan);
}

/// [`matmul`] of a product that is whole when `sums` is flushed: until then it may be in parts.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn matmul_before(plan: &mut Plan, product: Product, sums: &mut Sums) {
    let recipe = choose(plan, &Use::of(&product));
    push(plan, recipe, product, sums);
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
    let mut sums = Sums::default();
    push(plan, by.into(), product, &mut sums);
    sums.flush(plan);
}

fn push(plan: &mut Plan, recipe: Recipe, product: Product, sums: &mut Sums) {
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
    if let Epilogue::Gate { hidden, up_first } = epilogue
        && !recipe.variant.pairs(product.sizes())
    {
        assert!(!output.is_halves(), "halves are paired: {product:?}");
        let epilogue = Epilogue::Store;
        matmul_by(
            plan,
            recipe,
            Product {
                epilogue,
                ..product
            },
        );
        return swiglu::forward_into(plan, output, up_first, hidden);
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
            // What a block adds to has to be whole.
            if rows.start > 0 {
                sums.flush(plan);
            }
            push_rows(plan, recipe, part, sums);
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
        push_rows(plan, recipe, part, sums);
    }
}

/// A product to halves by a variant that stores words, which are rounded in a step of their own: for
/// software adapters, whose kernels of products take long to compile.
fn by_way_of_words(plan: &mut Plan, recipe: Recipe, product: Product) {
    let words = |plan: &mut Plan, t: Tensor| plan.scratch("product", t.rows, t.cols);
    let mut beside = None;
    let epilogue = match product.epilogue {
        Epilogue::Gate { hidden, up_first } => {
            let in_words = words(plan, hidden);
            beside = Some((in_words, hidden));
            let hidden = in_words;
            Epilogue::Gate { hidden, up_first }
        }
        Epilogue::GateBackward { gate_up, up_first } => {
            let gate_up = match recipe.variant {
                // It reads them from textures, which it takes from halves as well.
                Variant::TextureSubgroup { .. } => gate_up,
                _ => widen(plan, gate_up),
            };
            Epilogue::GateBackward { gate_up, up_first }
        }
        other => other,
    };
    let output = words(plan, product.output);
    matmul_by(
        plan,
        recipe,
        Product {
            output,
            epilogue,
            ..product
        },
    );
    halve_into(plan, output, None, product.output);
    if let Some((in_words, halves)) = beside {
        halve_into(plan, in_words, None, halves);
    }
}

/// A product whose operands can all be bound.
fn push_rows(plan: &mut Plan, recipe: Recipe, product: Product, sums: &mut Sums) {
    let variant = recipe.variant;
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let [m, n, k] = product.sizes();
    let b_k = if form == Form::Nt { b.cols } else { b.rows };
    assert_eq!(
        (k, m, epilogue.output_cols(n)),
        (b_k, output.rows, output.cols),
        "matmul {form:?} of {a:?} and {b:?}"
    );
    epilogue.check(output);
    let unmet = unmet(&Use::of(&product), recipe);
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
    sums.add(plan, partials, output, epilogue == Epilogue::Accumulate);
}
