//! The kernels: what each one binds, and typed functions that push its dispatches to a plan.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod grad_norm;
pub mod matmul;
pub mod matmul_stage;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod softmax;
pub mod sum;
pub mod swiglu;

use crate::gpu::{AdapterClass, Binding, Kernel, Plan, Role};

/// Every kernel of every op and variant.
pub static ALL: &[&Kernel] = &[
    &embedding::FORWARD,
    &embedding::BACKWARD_SEGMENTS,
    &embedding::BACKWARD,
    &matmul::TILED,
    &matmul::TEXTURE,
    &matmul_stage::STAGE,
    &rmsnorm::FORWARD,
    &rmsnorm::BACKWARD_INPUT,
    &rmsnorm::BACKWARD_WEIGHT,
    &rope::FORWARD,
    &rope::BACKWARD,
    &attention::FORWARD,
    &attention::FORWARD_TEXTURE,
    &attention::BACKWARD_DELTA,
    &attention::BACKWARD_QUERY,
    &attention::BACKWARD_QUERY_TEXTURE,
    &attention::BACKWARD_KEY_VALUE,
    &attention::BACKWARD_KEY_VALUE_TEXTURE,
    &swiglu::FORWARD,
    &swiglu::BACKWARD,
    &softmax::FORWARD,
    &softmax::BACKWARD,
    &cross_entropy::FORWARD,
    &cross_entropy::LOSS_SUM,
    &sum::PARTIALS,
    &grad_norm::SQUARES,
    &grad_norm::CLIP,
    &adamw::UPDATE,
    &sample::TOP_K,
    &sample::TOP_P,
    &sample::DRAW,
    &sample::GREEDY,
];

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

const fn binding(name: &'static str, role: Role) -> Binding {
    Binding { name, role }
}
