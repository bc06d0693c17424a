//! The launches of one product, by variant: whole, or in blocks whose operands fit textures.

use std::ops::Range;

use super::super::SUBGROUPS_OF_MATRICES;
use super::super::matmul_stage::stage;
use super::{
    Epilogue, FEW_ROWS, FEW_TEXTURE, Form, MatmulFewTextureParams, MatmulParams, MatmulRowParams,
    MatmulTextureParams, Product, ROW, ROW_TEXTURE, ROW_TEXTURE_F16, Sizes, TEXTURE, TEXTURE_SIDE,
    TEXTURE_SUBGROUP, Variant, takes_any_epilogue,
};
use crate::gpu::dispatch::{Bound, word};
use crate::gpu::{Dispatch, Plan, Tensor, Window};

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
        variant @ (Variant::Few | Variant::FewF16) => push_few(plan, variant, product, sizes),
        Variant::FewTexture => push_few_texture(plan, product, sizes),
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
        second_stride: product.epilogue.second_stride(),
        time,
        head_dim,
        boundary: product.epilogue.boundary(),
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
    let [a, b, aside, output, second] = [a, b, extra.aside, output, extra.second].map(Bound::from);
    let (tile_rows, tile_cols) = variant.tile();
    let kernel = variant.kernel();
    let dispatch = if variant.takes_matrices() {
        Dispatch::new(kernel, params, [a, b, aside, output, second])
    } else {
        // Once by elements, once by quads.
        Dispatch::new(kernel, params, [a, b, a, b, aside, output, second])
    };
    let dispatch = match kernel.matrix_side() {
        Some(side) => dispatch.constant("LANES", lanes(plan, tile_rows, side)),
        None => dispatch,
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

/// Lanes of a workgroup whose four subgroups multiply matrices of `side` rows: as many as the largest
/// subgroups need, and no more than bring a quad each of a slice of two matrices' depth.
fn lanes(plan: &Plan, tile_rows: usize, side: u32) -> u32 {
    let four = SUBGROUPS_OF_MATRICES * plan.target().largest_subgroup_with_matrices(side);
    four.clamp(128, word(tile_rows) * 2 * side / 4)
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
        boundary: epilogue.boundary(),
    };
    let extra = epilogue.bindings(plan, product.a);
    let bindings = [a, b, extra.aside, output].map(Bound::from);
    plan.push(
        Dispatch::new(&ROW, params, bindings)
            .workgroups([word(n.div_ceil(Variant::Row.tile().1)), 1, 1])
            .flops(2 * n * k),
    );
}

/// Rows that a workgroup of the variants for a few rows takes of `m`.
fn few_rows(m: usize) -> usize {
    if m == 1 { 1 } else { FEW_ROWS }
}

fn push_few(plan: &mut Plan, variant: Variant, product: Product, sizes: Sizes) {
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Sizes { m, n, k, .. } = sizes;
    let kernel = variant.kernel();
    assert_eq!(form, Form::Nt, "{} takes lines", kernel.label());
    let params = buffer_params(&product, &sizes);
    let aligned = a.row_stride.is_multiple_of(4) && b.row_stride.is_multiple_of(4);
    let extra = epilogue.bindings(plan, a);
    let bindings = [a, b, a, b, extra.aside, output, extra.second].map(Bound::from);
    let dispatch = Dispatch::new(kernel, params, bindings);
    let dispatch = if variant.is_of_halves() {
        dispatch.constant("OUTPUT_HALVES", output.is_halves().into())
    } else {
        dispatch.constant("ALIGNED", aligned.into())
    };
    let rows = few_rows(m);
    let workgroups = [
        n.div_ceil(variant.tile().1),
        m.div_ceil(rows),
        sizes.splits(),
    ];
    plan.push(
        dispatch
            .constant("EPILOGUE", epilogue.code())
            .constant("ROWS", word(rows))
            .workgroups(workgroups.map(word))
            .flops(2 * m * n * k),
    );
}

/// In blocks of columns whose lines fit a texture. One row of whole quads is read where it lies.
fn push_few_texture(plan: &mut Plan, product: Product, sizes: Sizes) {
    let Product {
        a,
        b,
        output,
        epilogue,
        ..
    } = product;
    let Sizes { m, n, k, .. } = sizes;
    let (time, head_dim) = epilogue.time_and_head_dim();
    let in_place = m == 1 && k.is_multiple_of(4);
    let (kernel, tile_cols) = match (in_place, a.is_halves()) {
        (false, _) => (&FEW_TEXTURE, 8),
        (true, false) => (&ROW_TEXTURE, 16),
        (true, true) => (&ROW_TEXTURE_F16, 16),
    };
    for cols in blocks(n, TEXTURE_SIDE) {
        let row: Bound = if in_place {
            a.into()
        } else {
            stage(plan, Window::whole(a)).into()
        };
        let lines = stage(plan, window(b, false, &cols, &(0..k)));
        let extra = epilogue.bindings(plan, a);
        let params = MatmulFewTextureParams {
            m: word(m),
            n: word(n),
            k: word(k),
            first_col: word(cols.start),
            output_stride: word(output.row_stride),
            second_stride: epilogue.second_stride(),
            time,
            head_dim,
            boundary: epilogue.boundary(),
        };
        let bindings = [
            row,
            lines.into(),
            extra.aside.into(),
            output.into(),
            extra.second.into(),
        ];
        let dispatch =
            Dispatch::new(kernel, params, bindings).constant("EPILOGUE", epilogue.code());
        let (dispatch, rows) = if in_place {
            (dispatch, 1)
        } else {
            let rows = few_rows(m);
            (dispatch.constant("ROWS", word(rows)), rows)
        };
        let workgroups = [cols.len().div_ceil(tile_cols), m.div_ceil(rows), 1];
        plan.push(
            dispatch
                .workgroups(workgroups.map(word))
                .flops(2 * m * cols.len() * k),
        );
    }
}

/// One launch of a texture variant: parts of m, n and k whose operands fit textures.
#[derive(Clone, Debug)]
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
    depth: Range<usize>,
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
fn reads_rows(variant: Variant, form: Form) -> bool {
    matches!(variant, Variant::TextureSubgroup { .. }) && form != Form::Tn
}

/// How many rows of the output the left operand's texture of such sides has room for.
fn most_rows(variant: Variant, form: Form, side: usize) -> usize {
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
    let Product {
        form,
        a,
        b,
        output,
        epilogue,
    } = product;
    let Block { rows, cols, depth } = block;
    let a_rows = reads_rows(variant, form);
    let a_window = if a_rows {
        window(a, false, rows, depth)
    } else {
        window(a, form != Form::Tn, depth, rows)
    };
    let a_texture = stage(plan, a_window).into();
    let b_texture = stage(plan, window(b, form == Form::Nt, depth, cols)).into();
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
        output_stride: word(output.row_stride),
        second_stride: epilogue.second_stride(),
        epilogue: epilogue.code(),
        time,
        head_dim,
        boundary: epilogue.boundary(),
    };
    let extra = epilogue.bindings(plan, a);
    let (tile_rows, tile_cols) = variant.tile();
    let workgroups = [
        cols.len().div_ceil(tile_cols),
        rows.len().div_ceil(tile_rows),
        depth.len().div_ceil(k_per_split),
    ];
    let dispatch = if let Variant::TextureSubgroup { .. } = variant {
        let texels = texels(plan, epilogue, rows);
        // What is read as texels needs no buffer.
        let aside = texels.map_or(extra.aside, |_| a);
        let bindings = [
            a_texture,
            b_texture,
            aside.into(),
            texels.unwrap_or(a_texture),
            output.into(),
            extra.second.into(),
        ];
        Dispatch::new(&TEXTURE_SUBGROUP, params, bindings)
            .constant("A_ROWS", a_rows.into())
            .constant("EPILOGUE", epilogue.code())
    } else {
        let [aside, output, second] = [extra.aside, output, extra.second].map(Bound::from);
        Dispatch::new(
            &TEXTURE,
            params,
            [a_texture, b_texture, aside, output, second],
        )
    };
    plan.push(
        dispatch
            .workgroups(workgroups.map(word))
            .flops(2 * rows.len() * cols.len() * depth.len()),
    );
}

/// What an epilogue reads from textures: buffers' loads from rows far apart wait for memory, and a copy
/// does not.
fn texels(plan: &mut Plan, epilogue: Epilogue, rows: &Range<usize>) -> Option<Bound> {
    let window = match epilogue {
        Epilogue::Rotate { table, .. } => Window::whole(table.angles),
        Epilogue::GateBackward { gate_up, .. } => window(gate_up, false, rows, &(0..gate_up.cols)),
        Epilogue::Store | Epilogue::Accumulate | Epilogue::Residual(_) | Epilogue::Gate { .. } => {
            return None;
        }
    };
    Some(stage(plan, window).into())
}

/// Some rows and columns of a matrix or of its transpose.
fn window(tensor: Tensor, transposed: bool, rows: &Range<usize>, cols: &Range<usize>) -> Window {
    Window {
        tensor,
        transposed,
        first_row: rows.start,
        rows: rows.len(),
        first_col: cols.start,
        cols: cols.len(),
    }
}
