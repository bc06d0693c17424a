//! The launches of one product, by variant: whole, or in blocks whose operands fit textures.

use std::ops::Range;

use super::super::matmul_stage::{stage, stage_or_part};
use super::{
    Epilogue, Form, MatmulParams, MatmulRowParams, MatmulTextureParams, Product, ROW, Sizes,
    TEXTURE, TEXTURE_SUBGROUP, Variant, takes_any_epilogue,
};
use crate::gpu::dispatch::{Bound, word};
use crate::gpu::{Dispatch, Plan, Tensor, Texture, Window};

pub(super) fn push(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes) {
    match variant {
        Variant::Row => push_row(plan, product, sizes),
        variant @ (Variant::Tiled
        | Variant::TiledQuads
        | Variant::TiledSmall
        | Variant::TiledF16
        | Variant::TiledQuadsF16
        | Variant::Cooperative
        | Variant::CooperativeSmall
        | Variant::Cooperative8x8
        | Variant::CooperativeSmall8x8) => {
            push_tiled(plan, variant, product, sizes);
        }
        variant @ (Variant::Texture { side } | Variant::TextureSubgroup { side }) => {
            push_texture(plan, variant, product, sizes, side);
        }
    }
}

/// Sizes and strides of a product that reads its operands from buffers.
fn buffer_params(product: &Product, sizes: &Sizes) -> MatmulParams {
    let (time, head_dim) = product.epilogue.time_and_head_dim();
    MatmulParams {
        m: word(sizes.m),
        n: word(sizes.n),
        k: word(sizes.k),
        k_per_split: word(sizes.k_per_split),
        a_stride: word(product.a.row_stride),
        b_stride: word(product.b.row_stride),
        output_stride: word(product.output.row_stride),
        time,
        head_dim,
    }
}

fn push_tiled(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes) {
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Sizes { m, n, k, .. } = sizes;
    let params = buffer_params(&product, &sizes);
    // Bindings begin at multiples of 256 bytes, so rows are aligned where their strides are.
    let aligned = a.row_stride.is_multiple_of(4) && b.row_stride.is_multiple_of(4);
    let to_halves = output.is_halves();
    let extra = epilogue.bindings(plan, a);
    let [a, b, aside, other, output, second] =
        [a, b, extra.aside, extra.other, output, extra.second].map(Bound::from);
    let (tile_rows, tile_cols) = variant.tile();
    let kernel = variant.kernel();
    let dispatch = if variant.takes_matrices() {
        Dispatch::new(kernel, params, [a, b, aside, other, output, second])
    } else {
        // Once by elements, once by quads.
        Dispatch::new(kernel, params, [a, b, a, b, aside, other, output, second])
    };
    let dispatch = if variant.is_of_halves() {
        dispatch.constant("OUTPUT_HALVES", to_halves.into())
    } else {
        dispatch.constant("ALIGNED", aligned.into())
    };
    plan.push(
        dispatch
            .constant("A_TRANSPOSED", (form == Form::Tn).into())
            .constant("B_TRANSPOSED", (form == Form::Nt).into())
            .constant("EPILOGUE", epilogue.code())
            .workgroups([
                word(n.div_ceil(tile_cols)),
                word(m.div_ceil(tile_rows)),
                word(sizes.splits()),
            ])
            .flops(2 * m * n * k),
    );
}

fn push_row(plan: &mut Plan, product: Product, sizes: Sizes) {
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Sizes { m, n, k, .. } = sizes;
    assert_eq!((m, form), (1, Form::Nt), "{} takes one row", ROW.label());
    let (time, head_dim) = epilogue.time_and_head_dim();
    let params = MatmulRowParams {
        m: word(m),
        n: word(n),
        k: word(k),
        b_stride: word(b.row_stride),
        output_stride: word(output.row_stride),
        epilogue: epilogue.code(),
        time,
        head_dim,
    };
    let extra = epilogue.bindings(plan, product.a);
    let bindings = [a, b, extra.aside, extra.other, output, extra.second].map(Bound::from);
    plan.push(
        Dispatch::new(&ROW, params, bindings)
            .workgroups([word(n.div_ceil(Variant::Row.tile().1)), 1, 1])
            .flops(2 * n * k),
    );
}

/// One launch of a texture variant: parts of m, n and k whose operands fit textures.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
    pub(super) depth: Range<usize>,
}

fn push_texture(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes, side: usize) {
    let Sizes {
        m,
        n,
        k,
        k_per_split,
    } = sizes;
    // Whole splits in each block, or, of a k that is not split, as much as a texture may hold: all
    // of it where the epilogue is for the whole sum.
    let block_depth = if k_per_split < k {
        side / k_per_split * k_per_split
    } else if product.epilogue.is_sum() {
        side
    } else {
        assert!(takes_any_epilogue(k), "{:?} of {k}", product.epilogue);
        k
    };
    assert!(block_depth > 0, "a split of {k_per_split} fits a texture");
    for depth in blocks(k, block_depth) {
        // The first block of an undivided k takes the epilogue, and the others add to it.
        let epilogue = if depth.start == 0 || k_per_split < k {
            product.epilogue
        } else {
            Epilogue::Accumulate
        };
        for rows in blocks(m, most_rows(variant, product.form, side)) {
            for cols in blocks(n, 4 * side) {
                let block = Block {
                    rows: rows.clone(),
                    cols,
                    depth: depth.clone(),
                };
                push_block(
                    plan,
                    variant,
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

/// Whether a variant reads the left operand from rows that follow k, as it lies in memory.
pub(super) fn reads_rows(variant: Variant, form: Form) -> bool {
    matches!(variant, Variant::TextureSubgroup { .. }) && form != Form::Tn
}

/// How many rows of the output the left operand's texture of such sides has room for.
pub(super) fn most_rows(variant: Variant, form: Form, side: usize) -> usize {
    if reads_rows(variant, form) {
        side
    } else {
        4 * side
    }
}

fn blocks(len: usize, block_len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(block_len)
        .map(move |first| first..len.min(first + block_len))
}

fn push_block(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes, block: &Block) {
    let Product { form, a, b, .. } = product;
    let Block { rows, cols, depth } = block;
    let a_texture = if reads_rows(variant, form) {
        stage(plan, window(a, false, rows, depth))
    } else {
        stage_or_part(plan, window(a, form != Form::Tn, depth, rows))
    };
    let b_texture = stage(plan, window(b, form == Form::Nt, depth, cols));
    push_staged(plan, variant, product, sizes, block, [a_texture, b_texture]);
}

/// A launch on operands that lie in textures, whatever tensors the product names.
pub(super) fn push_staged(
    plan: &mut Plan,
    variant: Variant,
    product: Product,
    sizes: Sizes,
    block: &Block,
    [a, b]: [Texture; 2],
) {
    let Product {
        form,
        output,
        epilogue,
        ..
    } = product;
    let Block { rows, cols, depth } = block;
    let a_rows = reads_rows(variant, form);
    let ([a_first_quad, 0], [0, 0]) = (a.origin(), b.origin()) else {
        panic!("an origin that products do not take: {a:?}, {b:?}");
    };
    assert!(!a_rows || a_first_quad == 0, "{a:?} as rows");
    let k_per_split = sizes.k_per_split.min(depth.len());
    let (time, head_dim) = epilogue.time_and_head_dim();
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
        a_first_quad: word(a_first_quad),
        output_stride: word(output.row_stride),
        epilogue: epilogue.code(),
        time,
        head_dim,
    };
    let extra = epilogue.bindings(plan, product.a);
    let (tile_rows, tile_cols) = variant.tile();
    let splits = depth.len().div_ceil(k_per_split);
    let workgroups = [
        cols.len().div_ceil(tile_cols),
        rows.len().div_ceil(tile_rows),
        splits,
    ];
    let [a, b] = [a, b].map(Bound::from);
    let [aside, other, output, second] =
        [extra.aside, extra.other, output, extra.second].map(Bound::from);
    let dispatch = if let Variant::TextureSubgroup { .. } = variant {
        let texels = texels(plan, epilogue, block);
        // What is read as texels needs no buffer from then on.
        let unused = product.a.into();
        let aside = texels[0].map_or(aside, |_| unused);
        let other = texels[1].map_or(other, |_| unused);
        let [aside_texels, other_texels] = texels.map(|texels| texels.unwrap_or(a));
        let bindings = [
            a,
            b,
            aside,
            other,
            aside_texels,
            other_texels,
            output,
            second,
        ];
        Dispatch::new(&TEXTURE_SUBGROUP, params, bindings)
            .constant("A_ROWS", a_rows.into())
            .constant("EPILOGUE", epilogue.code())
    } else {
        Dispatch::new(&TEXTURE, params, [a, b, aside, other, output, second])
    };
    plan.push(
        dispatch
            .workgroups(workgroups.map(word))
            .flops(2 * rows.len() * cols.len() * depth.len()),
    );
}

/// What an epilogue reads from textures: buffers' loads from rows far apart wait for memory, and a copy
/// does not. A gate's copy serves forward and backward.
fn texels(plan: &mut Plan, epilogue: Epilogue, block: &Block) -> [Option<Bound>; 2] {
    let mut part = |tensor| {
        let window = window(tensor, false, &block.rows, &block.cols);
        Some(stage(plan, window).into())
    };
    match epilogue {
        Epilogue::Rotate { table, .. } => {
            [Some(stage(plan, Window::whole(table.angles)).into()), None]
        }
        Epilogue::Gate { gate, .. } => [part(gate), None],
        Epilogue::GateBackward { gate, up, .. } => [part(gate), part(up)],
        Epilogue::Store | Epilogue::Accumulate | Epilogue::Residual(_) => [None, None],
    }
}

/// Some rows and columns of a matrix or of its transpose.
pub(super) fn window(
    tensor: Tensor,
    transposed: bool,
    rows: &Range<usize>,
    cols: &Range<usize>,
) -> Window {
    Window {
        tensor,
        transposed,
        first_row: rows.start,
        rows: rows.len(),
        first_col: cols.start,
        cols: cols.len(),
    }
}
