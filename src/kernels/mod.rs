//! The kernels: what each one binds, and typed functions that push its dispatches to a plan.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod grad_norm;
pub mod matmul;
pub mod matmul_stage;
pub mod probe;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod softmax;
pub mod sum;
pub mod swiglu;

use crate::gpu::{AdapterClass, Binding, Kernel, Plan, Role, Source};
use crate::shader;

/// Every kernel of every op and variant.
pub static ALL: &[&Kernel] = &[
    &embedding::FORWARD,
    &embedding::FORWARD_QUADS,
    &embedding::BACKWARD_SEGMENTS,
    &embedding::BACKWARD_SEGMENTS_QUADS,
    &embedding::BACKWARD,
    &embedding::BACKWARD_QUADS,
    &matmul::TILED,
    &matmul::TILED_SMALL,
    &matmul::TEXTURE,
    &matmul::TEXTURE_SUBGROUP,
    &matmul::ROW,
    &matmul_stage::STAGE,
    &matmul_stage::STAGE_TRANSPOSED,
    &rmsnorm::FORWARD,
    &rmsnorm::FORWARD_QUADS,
    &rmsnorm::FORWARD_SUBGROUP,
    &rmsnorm::BACKWARD_INPUT,
    &rmsnorm::BACKWARD_INPUT_QUADS,
    &rmsnorm::BACKWARD_WEIGHT,
    &rmsnorm::BACKWARD_WEIGHT_QUADS,
    &rmsnorm::BACKWARD_SUBGROUP,
    &rope::FORWARD,
    &rope::FORWARD_QUADS,
    &rope::BACKWARD,
    &rope::BACKWARD_QUADS,
    &attention::FORWARD,
    &attention::FORWARD_TEXTURE,
    &attention::FORWARD_TEXTURE_SUBGROUP,
    &attention::BACKWARD_DELTA,
    &attention::BACKWARD_DELTA_QUADS,
    &attention::BACKWARD_QUERY,
    &attention::BACKWARD_QUERY_TEXTURE,
    &attention::BACKWARD_QUERY_TEXTURE_SUBGROUP,
    &attention::BACKWARD_KEY_VALUE,
    &attention::BACKWARD_KEY_VALUE_TEXTURE,
    &attention::BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
    &swiglu::FORWARD,
    &swiglu::BACKWARD,
    &softmax::FORWARD,
    &softmax::BACKWARD,
    &cross_entropy::FORWARD,
    &cross_entropy::FORWARD_QUADS,
    &cross_entropy::LOSS_SUM,
    &sum::PARTIALS,
    &sum::PARTIALS_QUADS,
    &grad_norm::SQUARES,
    &grad_norm::CLIP,
    &adamw::UPDATE,
    &sample::TOP_K,
    &sample::TOP_P,
    &sample::DRAW,
    &sample::GREEDY,
    &probe::FMA,
    &probe::COPY,
    &probe::WORKGROUP,
];

/// Variants that can be forced on every op that they can compute, by `--variant`.
pub const VARIANTS: [&str; 8] = [
    "matmul.tiled",
    "matmul.tiled_small",
    "matmul.texture",
    "matmul.texture_subgroup",
    "matmul.row",
    "attention.portable",
    "attention.texture",
    "attention.texture_subgroup",
];

/// Makes sure that `name` is one of [`VARIANTS`].
///
/// # Errors
/// Names them where it is none.
pub fn check_variant(name: &str) -> Result<(), UnknownVariant> {
    if VARIANTS.contains(&name) {
        return Ok(());
    }
    Err(UnknownVariant {
        name: name.to_owned(),
    })
}

/// A name that no variant has.
#[derive(Debug, thiserror::Error)]
#[error("unknown variant '{name}'; there are: {}", VARIANTS.join(", "))]
pub struct UnknownVariant {
    /// The name.
    pub name: String,
}

/// A name that no kernel has.
#[derive(Debug, thiserror::Error)]
#[error("unknown kernel '{name}'; near it: {}", .near.join(", "))]
pub struct UnknownKernel {
    /// The name.
    pub name: String,
    /// The names that were probably meant, nearest first.
    pub near: Vec<String>,
}

/// Makes sure that `name` is the name or label of a kernel, or one of `others`.
///
/// # Errors
/// Names the nearest where it is none.
pub fn check_name(name: &str, others: &[&str]) -> Result<(), UnknownKernel> {
    let labels = ALL.iter().flat_map(|k| [k.name.to_owned(), k.label()]);
    let mut known: Vec<String> = labels.chain(others.iter().map(|&o| o.to_owned())).collect();
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    known.sort();
    known.dedup();
    let distance = |known: &String| {
        let similarity = strsim::jaro_winkler(known, name);
        // A name that holds what was typed is nearer than any that only looks like it.
        1.0 - similarity - f64::from(u8::from(known.contains(name)))
    };
    known.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    known.truncate(4);
    Err(UnknownKernel {
        name: name.to_owned(),
        near: known,
    })
}

/// Lanes of a workgroup that takes elements one by one.
const FLAT_LANES: usize = 64;

/// Lanes of a workgroup that reduces one row: a software adapter pays for every barrier and every
/// workgroup-memory access, so there a row gets as many lanes as its vectors are wide.
fn row_lanes(plan: &Plan) -> u32 {
    match plan.class() {
        AdapterClass::Gpu => 64,
        AdapterClass::Software => 8,
    }
}

/// Variant of kernels for rows of whole quads, which take four words at once.
const QUADS: &str = "quads";
/// What rows are made of in such a variant.
const QUADS_SOURCE: Source = shader!("shared/elements_quads.wgsl");
/// And in the variant for rows of any width.
const WORDS_SOURCE: Source = shader!("shared/elements_words.wgsl");

/// The kernel for rows of `cols` words, and the words of one of its elements.
pub fn by_width(
    cols: usize,
    words: &'static Kernel,
    quads: &'static Kernel,
) -> (&'static Kernel, usize) {
    if cols.is_multiple_of(4) {
        (quads, 4)
    } else {
        (words, 1)
    }
}

const fn binding(name: &'static str, role: Role) -> Binding {
    Binding { name, role }
}
