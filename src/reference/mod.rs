//! The f64 CPU reference of every operation: plain loops that the shaders are checked against.
//!
//! All tensors are row-major slices. The code imports nothing but `std`, so that a mistake in the
//! host code or in a shader cannot be shared with the values it is compared with. Every function
//! panics where the length of a slice does not fit its shape, because only a wrong caller can do that.

pub mod adamw;
pub mod attention;
pub mod attention_cache;
pub mod attention_weights;
pub mod bias;
pub mod cross_entropy;
pub mod dequantize;
pub mod embedding;
pub mod gelu;
pub mod grad_norm;
pub mod half;
pub mod head_norm;
pub mod layernorm;
pub mod logprobs;
pub mod loss_scale;
pub mod matmul;
pub mod matmul_stage;
pub mod philox;
pub mod probe;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod scale;
pub mod softmax;
pub mod sum;
pub mod swiglu;
pub mod transformer;

/// Panics unless `slice` holds `len` elements.
#[track_caller]
fn assert_len<T>(name: &str, slice: &[T], len: usize) {
    assert!(
        slice.len() == len,
        "{name} has {} elements, its shape has {len}",
        slice.len()
    );
}

/// The number of parts of `part_len` elements in `len`; panics unless they fill it.
#[track_caller]
fn exact_parts(name: &str, len: usize, part_len: usize) -> usize {
    assert!(
        part_len > 0 && len.is_multiple_of(part_len),
        "{name} has {len} elements, which is no multiple of {part_len}"
    );
    len / part_len
}
