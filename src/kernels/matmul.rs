//! Matrix products in the three forms that a linear layer needs, with epilogues.

use super::binding;
use super::sum::sum_partials;
use crate::gpu::plan::word;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(MatmulParams {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32
});

/// 64x64 tiles in workgroup memory, 8x8 outputs a lane: the portable variant, meant for GPUs.
pub static TILED: Kernel = Kernel {
    name: "matmul",
    variant: "tiled",
    source: shader!("matmul.tiled.wgsl"),
    shared: &[shader!("shared/matmul_store.wgsl")],
    bindings: &[
        binding("a", Role::In),
        binding("b", Role::In),
        binding("residual", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: MatmulParams::LAYOUT,
};

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

/// Rows and columns of the tile of one workgroup.
const TILE: usize = 64;
/// A product with fewer tiles than this leaves a GPU idle, so a long k is split.
const ENOUGH_TILES: usize = 64;
/// Shortest k of a split: shorter ones cost more to add up than they win.
const SHORTEST_SPLIT: usize = 256;

/// Pushes `output = A B` for `form`, `output` being `[m, n]`.
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
    let tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
    let splits = (ENOUGH_TILES / tiles).min(k / SHORTEST_SPLIT).max(1);
    if splits == 1 {
        push_tiled(plan, form, (a, b, output), (k, 1), epilogue);
        return;
    }
    let partials = plan.scratch("matmul_splits", splits, m * n);
    push_tiled(
        plan,
        form,
        (a, b, partials.reshape(splits * m, n)),
        (k, splits),
        Epilogue::Store,
    );
    match epilogue {
        Epilogue::Store => sum_partials(plan, partials, output, false),
        Epilogue::Accumulate => sum_partials(plan, partials, output, true),
        Epilogue::Residual(_) => unreachable!("a product with a residual is wide, not deep"),
    }
}

fn push_tiled(
    plan: &mut Plan,
    form: Form,
    (a, b, output): (Tensor, Tensor, Tensor),
    (k, splits): (usize, usize),
    epilogue: Epilogue,
) {
    let (m, n) = (output.rows / splits, output.cols);
    let params = MatmulParams {
        m: word(m),
        n: word(n),
        k: word(k),
        k_per_split: word(k.div_ceil(splits)),
    };
    // The binding has to hold something where there is no residual; the kernel does not read it.
    let residual = if let Epilogue::Residual(tensor) = epilogue {
        tensor
    } else {
        a
    };
    plan.push(
        Dispatch::new(
            &TILED,
            params,
            [a.into(), b.into(), residual.into(), output.into()],
        )
        .constant("A_TRANSPOSED", (form == Form::Tn).into())
        .constant("B_TRANSPOSED", (form == Form::Nt).into())
        .constant("ACCUMULATE", (epilogue == Epilogue::Accumulate).into())
        .constant("RESIDUAL", matches!(epilogue, Epilogue::Residual(_)).into())
        .workgroups([word(n.div_ceil(TILE)), word(m.div_ceil(TILE)), word(splits)])
        .flops(2 * m * n * k),
    );
}
