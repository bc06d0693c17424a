//! The kernels: what each one binds, and typed functions that push its dispatches to a plan.

pub mod adamw;
pub mod attention;
pub mod attention_cache;
pub mod attention_weights;
pub mod bias;
pub mod cross_entropy;
pub mod dequantize;
pub mod embedding;
pub mod family;
pub mod gelu;
pub mod grad_norm;
pub mod half;
pub mod head_norm;
pub mod layernorm;
pub mod logprobs;
pub mod loss_scale;
pub mod matmul;
pub mod matmul_stage;
pub mod probe;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod scale;
pub mod softmax;
pub mod sum;
pub mod swiglu;

use family::{AnyFamily, Of};

use crate::gpu::{
    AdapterClass, Binding, Elements, Feature, Kernel, Plan, Requirement, Role, Tensor,
};

/// A gradient, and whether it is added to what is there.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    /// Where it goes.
    pub tensor: Tensor,
    /// Adds it, or else overwrites what is there.
    pub accumulate: bool,
}

/// Every kernel of every op and variant.
pub static ALL: &[&Kernel] = &[
    &embedding::FORWARD,
    &embedding::FORWARD_QUADS,
    &embedding::FORWARD_F16,
    &embedding::FORWARD_Q8_0,
    &embedding::BACKWARD_SEGMENTS,
    &embedding::BACKWARD_SEGMENTS_QUADS,
    &embedding::BACKWARD,
    &embedding::BACKWARD_QUADS,
    &matmul::TILED,
    &matmul::TILED_QUADS,
    &matmul::TILED_SMALL,
    &matmul::TILED_F16,
    &matmul::TILED_QUADS_F16,
    &matmul::COOPERATIVE,
    &matmul::COOPERATIVE_SMALL,
    &matmul::COOPERATIVE_8X8,
    &matmul::COOPERATIVE_SMALL_8X8,
    &matmul::TEXTURE,
    &matmul::TEXTURE_SUBGROUP,
    &matmul::ROW,
    &matmul::FEW,
    &matmul::FEW_F16,
    &matmul::FEW_TEXTURE,
    &matmul::ROW_TEXTURE,
    &matmul::ROW_TEXTURE_F16,
    &matmul_stage::STAGE,
    &matmul_stage::STAGE_TRANSPOSED,
    &matmul_stage::STAGE_F16,
    &matmul_stage::STAGE_TRANSPOSED_F16,
    &dequantize::DEQUANTIZE,
    &dequantize::DEQUANTIZE_F16,
    &half::HALVE,
    &half::HALVE_QUADS,
    &half::WIDEN,
    &half::WIDEN_QUADS,
    &rmsnorm::FORWARD,
    &rmsnorm::FORWARD_QUADS,
    &rmsnorm::FORWARD_SUBGROUP,
    &rmsnorm::BACKWARD_INPUT,
    &rmsnorm::BACKWARD_INPUT_QUADS,
    &rmsnorm::BACKWARD_WEIGHT,
    &rmsnorm::BACKWARD_WEIGHT_QUADS,
    &rmsnorm::BACKWARD_SUBGROUP,
    &layernorm::FORWARD,
    &layernorm::FORWARD_QUADS,
    &layernorm::BACKWARD_INPUT,
    &layernorm::BACKWARD_INPUT_QUADS,
    &layernorm::BACKWARD_WEIGHT,
    &layernorm::BACKWARD_WEIGHT_QUADS,
    &head_norm::FORWARD,
    &head_norm::FORWARD_QUADS,
    &head_norm::BACKWARD_INPUT,
    &head_norm::BACKWARD_INPUT_QUADS,
    &head_norm::BACKWARD_WEIGHT,
    &head_norm::BACKWARD_WEIGHT_QUADS,
    &rope::FORWARD,
    &attention::FORWARD,
    &attention::FORWARD_F16,
    &attention::FORWARD_COOPERATIVE,
    &attention::FORWARD_COOPERATIVE_8X8,
    &attention::FORWARD_TEXTURE,
    &attention::FORWARD_TEXTURE_SUBGROUP,
    &attention::BACKWARD_QUERY,
    &attention::BACKWARD_QUERY_F16,
    &attention::BACKWARD_QUERY_COOPERATIVE,
    &attention::BACKWARD_QUERY_COOPERATIVE_8X8,
    &attention::BACKWARD_QUERY_TEXTURE,
    &attention::BACKWARD_QUERY_TEXTURE_SUBGROUP,
    &attention::BACKWARD_KEY_VALUE,
    &attention::BACKWARD_KEY_VALUE_F16,
    &attention::BACKWARD_KEY_VALUE_COOPERATIVE,
    &attention::BACKWARD_KEY_VALUE_COOPERATIVE_8X8,
    &attention::BACKWARD_KEY_VALUE_TEXTURE,
    &attention::BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
    &attention_cache::CACHED,
    &attention_cache::CACHED_F16,
    &attention_cache::CACHED_SUBGROUP,
    &attention_cache::CACHED_SUBGROUP_F16,
    &attention_cache::FILL,
    &attention_cache::FILL_F16,
    &attention_weights::WEIGHTS,
    &attention_weights::WEIGHTS_F16,
    &swiglu::FORWARD,
    &swiglu::FORWARD_QUADS,
    &swiglu::BACKWARD,
    &swiglu::BACKWARD_QUADS,
    &gelu::FORWARD,
    &gelu::FORWARD_QUADS,
    &gelu::BACKWARD,
    &gelu::BACKWARD_QUADS,
    &scale::SCALE,
    &scale::SCALE_QUADS,
    &bias::FORWARD,
    &bias::FORWARD_QUADS,
    &bias::BACKWARD,
    &bias::BACKWARD_QUADS,
    &softmax::FORWARD,
    &softmax::BACKWARD,
    &cross_entropy::FORWARD,
    &cross_entropy::FORWARD_QUADS,
    &cross_entropy::LOSS_SUM,
    &sum::PARTIALS,
    &sum::PARTIALS_QUADS,
    &sum::SEVERAL,
    &grad_norm::SQUARES,
    &grad_norm::CLIP,
    &loss_scale::UPDATE,
    &adamw::UPDATE,
    &logprobs::TOKEN_LOGPROBS,
    &sample::FILTER,
    &sample::DRAW,
    &probe::FMA,
    &probe::COPY,
    &probe::WORKGROUP,
];

/// Every op that more than one kernel can compute.
pub static FAMILIES: [&dyn AnyFamily; 3] = [
    &Of::<matmul::Use>::NEW,
    &Of::<attention::Use>::NEW,
    &Of::<rmsnorm::Use>::NEW,
];

/// The family that the member `label` belongs to, for instance `matmul.tiled`.
pub fn family_of(label: &str) -> Option<&'static dyn AnyFamily> {
    let mut families = FAMILIES.into_iter();
    families.find(|family| !family.kernels(label).is_empty())
}

/// Makes sure that `plan` computes an op by its forced member `label` wherever that can, and that it
/// does so somewhere.
///
/// # Errors
/// Names the class that another member took, or the kernel that was dispatched without being chosen.
pub fn expect_forced(plan: &Plan, label: &str) -> Result<(), String> {
    let Some(family) = family_of(label) else {
        return Err(format!("no variant is called {label}"));
    };
    let labels = family.labels();
    let member = |recipe: &str| recipe.split(' ').next().unwrap_or_default().to_owned();
    let mut allowed: Vec<&Kernel> = family.kernels(label).to_vec();
    for chosen in plan.chosen() {
        let by = member(&chosen.recipe);
        if by == label || !labels.contains(&by) {
            continue;
        }
        if !chosen.left_out.iter().any(|(name, _)| name == label) {
            return Err(format!("{} took {by}, though {label} can", chosen.class));
        }
        allowed.extend(family.kernels(&by));
    }
    let is_in = |k: &Kernel, set: &[&Kernel]| set.iter().any(|known| std::ptr::eq(*known, k));
    let mut own = 0;
    for dispatch in plan.all_dispatches() {
        let kernel = dispatch.kernel;
        own += usize::from(is_in(kernel, family.kernels(label)));
        if family.has(kernel) && !is_in(kernel, &allowed) {
            return Err(format!("{} was dispatched, not {label}", kernel.label()));
        }
    }
    if own == 0 {
        return Err(format!("{label} was not dispatched"));
    }
    Ok(())
}

/// Whether every kernel of the member `label` reads operands of halves alone, which models of mixed precision
/// have.
pub fn takes_halves(label: &str) -> bool {
    let takes = |k: &&Kernel| {
        let mut bindings = k.bindings.iter();
        bindings.any(|b| b.elements == Some(Elements::Halves))
    };
    family_of(label).is_some_and(|family| family.kernels(label).iter().all(takes))
}

/// Variants that can be forced on every op that they can compute, by `--variant`.
pub fn variants() -> Vec<String> {
    FAMILIES.iter().flat_map(|family| family.labels()).collect()
}

/// Makes sure that `name` is one of [`variants`].
///
/// # Errors
/// Names them where it is none.
pub fn check_variant(name: &str) -> Result<(), UnknownVariant> {
    if variants().iter().any(|known| known == name) {
        return Ok(());
    }
    Err(UnknownVariant {
        name: name.to_owned(),
    })
}

/// A name that no variant has.
#[derive(Debug, thiserror::Error)]
#[error("unknown variant '{name}'; there are: {}", variants().join(", "))]
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

/// Lanes of the subgroups that kernels by subgroups are written for: those of llvmpipe with AVX2.
pub const SUBGROUP_LANES: u32 = 8;
/// What such a kernel needs.
const SUBGROUPS: &[Requirement] = &[
    Requirement::Feature(Feature::Subgroups),
    Requirement::Lanes(SUBGROUP_LANES),
];

/// Subgroups of a workgroup by cooperative matrices, each of which has a part of its tile. Further ones do
/// what nobody needs.
const SUBGROUPS_OF_MATRICES: u32 = 4;

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

/// Rows that one lane of a gain's gradient adds up, or one subgroup takes.
const ROWS_PER_BLOCK: usize = 32;

/// Rows of a block of partial sums: no more blocks than one dimension of the grid holds.
fn rows_per_block(rows: usize) -> usize {
    ROWS_PER_BLOCK.max(rows.div_ceil(65_535))
}

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

/// A binding of words, or a texture.
const fn binding(name: &'static str, role: Role) -> Binding {
    Binding {
        name,
        role,
        elements: Some(Elements::Words),
        is_q8_0: false,
    }
}

/// A binding of halves.
const fn halves(name: &'static str, role: Role) -> Binding {
    Binding {
        name,
        role,
        elements: Some(Elements::Halves),
        is_q8_0: false,
    }
}

/// A binding of blocks of signed bytes with their scales.
const fn q8_0(name: &'static str, role: Role) -> Binding {
    Binding {
        name,
        role,
        elements: Some(Elements::Words),
        is_q8_0: true,
    }
}

/// A binding of either, as a constant of the pipeline says, or of something that is not read.
const fn either(name: &'static str, role: Role) -> Binding {
    Binding {
        name,
        role,
        elements: None,
        is_q8_0: false,
    }
}
