//! A sum of products as one product over a longer k, whose operands lie together in one texture each:
//! on software adapters a sum that is added to memory costs a third more than one that is stored.

use super::super::matmul_stage::{ROWS_MULTIPLE, stage_side_by_side, stage_stacked};
use super::launch::{self, Block};
use super::{Epilogue, Form, Product, Recipe, Sizes, Use, Variant, choose, matmul, matmul_by};
use crate::gpu::{AdapterClass, Plan, Tensor, Window};

/// Pushes `output = A1 B1 + A2 B2 + ...` for pairs of `A [m, k]` and `B [k, n]`, each with a k of its
/// own, `output` being `[m, n]`.
///
/// # Panics
/// If there is no pair or the shapes do not fit: a bug of the caller.
pub fn matmul_sum(plan: &mut Plan, pairs: &[(Tensor, Tensor)], output: Tensor) {
    let k = pairs.iter().map(|(a, _)| a.cols).sum();
    // Without textures nothing is won, and a question would cost the tuner's time.
    if plan.class() == AdapterClass::Software && can_lie_together(pairs) {
        let used = Use::of(&first_product(pairs, output), k);
        let recipe = choose(plan, &used);
        if let Some(variant) = joining_variant(recipe, pairs, output) {
            return push_joined(plan, variant, pairs, output);
        }
    }
    for product in one_by_one(pairs, output) {
        let Product { a, b, epilogue, .. } = product;
        matmul(plan, Form::Nn, a, b, output, epilogue);
    }
}

/// [`matmul_sum`] by a given variant or recipe.
///
/// # Panics
/// If there is no pair or the shapes do not fit: a bug of the caller.
pub fn matmul_sum_by(
    plan: &mut Plan,
    by: impl Into<Recipe>,
    pairs: &[(Tensor, Tensor)],
    output: Tensor,
) {
    let recipe = by.into();
    if let Some(variant) = joining_variant(recipe, pairs, output) {
        return push_joined(plan, variant, pairs, output);
    }
    for product in one_by_one(pairs, output) {
        matmul_by(plan, recipe, product);
    }
}

/// Products of which the first replaces the output and the others add to it.
fn one_by_one(pairs: &[(Tensor, Tensor)], output: Tensor) -> impl Iterator<Item = Product> {
    pairs.iter().enumerate().map(move |(i, &(a, b))| Product {
        form: Form::Nn,
        a,
        b,
        output,
        epilogue: if i == 0 {
            Epilogue::Store
        } else {
            Epilogue::Accumulate
        },
    })
}

/// The product that replaces the output.
fn first_product(pairs: &[(Tensor, Tensor)], output: Tensor) -> Product {
    one_by_one(pairs, output).next().expect("a pair")
}

/// Whether several operands make one without gaps, in whole texels and whole rows of a copy.
fn can_lie_together(pairs: &[(Tensor, Tensor)]) -> bool {
    let whole = |(a, _): &(Tensor, Tensor)| a.cols.is_multiple_of(ROWS_MULTIPLE);
    pairs.len() > 1 && pairs.iter().all(whole)
}

/// The variant that computes the sum in one launch for each block of rows that can be bound, if
/// the recipe has one.
fn joining_variant(recipe: Recipe, pairs: &[(Tensor, Tensor)], output: Tensor) -> Option<Variant> {
    let (Variant::Texture { side } | Variant::TextureSubgroup { side }) = recipe.variant else {
        return None;
    };
    let [m, n] = [output.rows, output.cols];
    let k = pairs.iter().map(|(a, _)| a.cols).sum();
    let variant = recipe.variant;
    let fits = k <= side && m <= launch::most_rows(variant, Form::Nn, side) && n <= 4 * side;
    (can_lie_together(pairs) && fits && recipe.splits(m, n, k) == 1).then_some(variant)
}

fn push_joined(plan: &mut Plan, variant: Variant, pairs: &[(Tensor, Tensor)], output: Tensor) {
    let n = output.cols;
    let k: usize = pairs.iter().map(|(a, _)| a.cols).sum();
    for (a, b) in pairs {
        assert_eq!(
            (a.rows, a.cols, n),
            (output.rows, b.rows, b.cols),
            "sum of {pairs:?}"
        );
    }
    let whole: Vec<_> = pairs.iter().map(|(_, b)| Window::whole(*b)).collect();
    let b_texture = stage_stacked(plan, &whole);
    let bound: Vec<_> = pairs.iter().map(|(a, _)| *a).chain([output]).collect();
    for rows in plan.row_blocks_of(&bound, 1, 2 * k * n) {
        let m = rows.len();
        let parts = pairs.iter().map(|(a, _)| a.slice_rows(rows.start, m));
        let a_texture = if launch::reads_rows(variant, Form::Nn) {
            stage_side_by_side(plan, &parts.map(Window::whole).collect::<Vec<_>>())
        } else {
            let transposed = |a: Tensor| launch::window(a, true, &(0..a.cols), &(0..m));
            stage_stacked(plan, &parts.map(transposed).collect::<Vec<_>>())
        };
        let product = Product {
            form: Form::Nn,
            a: pairs[0].0.slice_rows(rows.start, m),
            b: pairs[0].1,
            output: output.slice_rows(rows.start, m),
            epilogue: Epilogue::Store,
        };
        let sizes = Sizes {
            m,
            n,
            k,
            k_per_split: k,
        };
        let block = Block {
            rows: 0..m,
            cols: 0..n,
            depth: 0..k,
        };
        launch::push_staged(
            plan,
            variant,
            product,
            sizes,
            &block,
            [a_texture, b_texture],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Target;
    use crate::kernels::SUBGROUP_LANES;
    use crate::kernels::matmul::{TEXTURE, TEXTURE_SIDE, TEXTURE_SUBGROUP, TILED};
    use crate::kernels::matmul_stage::STAGE;

    /// Launches of each kernel for a sum over `depths`, and then for each operand's product with
    /// another matrix.
    fn launches(class: AdapterClass, rows: usize, depths: &[usize]) -> [usize; 4] {
        let mut plan = Plan::new(Target {
            subgroup_size: Some(SUBGROUP_LANES),
            ..Target::portable(class)
        });
        let section = plan.section();
        let pairs: Vec<_> = depths
            .iter()
            .map(|&k| (plan.scratch("a", rows, k), plan.scratch("b", k, 128)))
            .collect();
        let [x, output] = ["x", "output"].map(|label| plan.scratch(label, rows, 128));
        matmul_sum(&mut plan, &pairs, output);
        for (a, b) in &pairs {
            matmul(&mut plan, Form::Tn, *a, x, *b, Epilogue::Store);
        }
        [&TILED, &TEXTURE, &TEXTURE_SUBGROUP, &STAGE]
            .map(|kernel| plan.dispatches_of(section, kernel).count())
    }

    #[test]
    fn a_sum_is_one_product_whose_copies_serve_later_ones_too() {
        let software = AdapterClass::Software;
        // The copies are those of three pairs and of what is multiplied with each.
        assert_eq!(launches(software, 64, &[128, 64, 64]), [0, 0, 4, 7]);
        assert_eq!(launches(software, 64, &[128, 60]), [0, 0, 4, 5]);
        assert_eq!(launches(software, 64, &[128]), [0, 0, 2, 3]);
        // A k past a texture's side.
        assert_eq!(launches(software, 256, &[TEXTURE_SIDE, 8])[2], 4);
        // So few workgroups that k is better split.
        assert_eq!(launches(software, 1, &[512, 512])[2], 4);
        assert_eq!(launches(AdapterClass::Gpu, 64, &[128, 64, 64])[..2], [6, 0]);
    }
}
