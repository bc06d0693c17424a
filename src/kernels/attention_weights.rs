//! The weights of one head's attention, for people to look at: training and generation never hold them.

use super::attention::Qkv;
use super::{binding, halves};
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(WeightsParams {
    rows: u32,
    scale: f32,
    row_stride: u32,
    query_first: u32,
    key_first: u32
});

/// Softmax of a head's scores.
pub static WEIGHTS: Kernel = Kernel {
    name: "attention_weights",
    variant: PORTABLE,
    source: shader!("attention/attention_weights.wgsl"),
    bindings: &[binding("qkv", Role::In), binding("output", Role::Out)],
    params: WeightsParams::LAYOUT,
    requires: &[],
};

/// [`WEIGHTS`] for halves.
pub static WEIGHTS_F16: Kernel = Kernel {
    variant: "portable_f16",
    bindings: &[halves("qkv", Role::In), binding("output", Role::Out)],
    ..WEIGHTS
};

/// Which head to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The query head.
    pub number: usize,
    /// Query heads that share a key head.
    pub group: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

/// Writes `softmax_j(q_i k_j / sqrt(head_dim))` for `j <= i` of all rows of one sequence to `output`
/// `[rows, rows]`, with zeros above the diagonal.
///
/// # Panics
/// If the output has another shape: a bug of the caller.
pub fn weights(plan: &mut Plan, qkv: Qkv, head: Head, output: Tensor) {
    let rows = qkv.tensor.rows;
    assert_eq!((output.rows, output.cols), (rows, rows), "{output:?}");
    let kernel = if qkv.tensor.is_halves() {
        &WEIGHTS_F16
    } else {
        &WEIGHTS
    };
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    let scale = (1.0 / (head.head_dim as f64).sqrt()) as f32;
    let params = WeightsParams {
        rows: word(rows),
        scale,
        row_stride: word(qkv.tensor.row_stride),
        query_first: word(head.number * head.head_dim),
        key_first: word(qkv.key_first + head.number / head.group * head.head_dim),
    };
    plan.push(
        Dispatch::new(kernel, params, [qkv.tensor.into(), output.into()])
            .constant("HEAD_DIM", word(head.head_dim))
            .workgroups([word(rows), 1, 1])
            .flops(rows * rows * head.head_dim),
    );
}
