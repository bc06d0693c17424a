//! Fused causal attention with grouped key and value heads: no `[time, time]` buffer, forward by
//! online softmax, backward by recomputation from the log-sum-exp (Dao et al. 2022).

use super::{FLAT_LANES, binding};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::plan::{flat_workgroups, word};
use crate::gpu::{AdapterClass, Binding, Dispatch, Kernel, Plan, Role, Source, Tensor};
use crate::{params, shader};

params!(AttentionParams {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32
});
params!(DeltaParams {
    rows: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32
});

/// Largest head that fits the kernels' private arrays.
pub const MAX_HEAD_DIM: usize = 128;

const BACKWARD_SHARED: &[Source] = &[
    shader!("shared/attention_quads.wgsl"),
    shader!("shared/attention_d_output_quad.wgsl"),
];

/// Output and log-sum-exp of each query row.
pub static FORWARD: Kernel = Kernel {
    name: "attention_forward",
    variant: PORTABLE,
    source: shader!("attention_forward.wgsl"),
    shared: &[
        shader!("shared/attention_quads.wgsl"),
        shader!("shared/most_negative.wgsl"),
    ],
    bindings: &[
        binding("query", Role::In),
        binding("key", Role::In),
        binding("value", Role::In),
        binding("output", Role::Out),
        binding("log_sum_exp", Role::Out),
    ],
    params: AttentionParams::LAYOUT,
};

/// Dot product of output and its gradient, a number a query row.
pub static BACKWARD_DELTA: Kernel = Kernel {
    name: "attention_backward_delta",
    variant: PORTABLE,
    source: shader!("attention_backward_delta.wgsl"),
    shared: &[shader!("shared/flat_workgroup.wgsl")],
    bindings: &[
        binding("output", Role::In),
        binding("d_output", Role::In),
        binding("delta", Role::Out),
    ],
    params: DeltaParams::LAYOUT,
};

const BACKWARD_INPUTS: [Binding; 6] = [
    binding("query", Role::In),
    binding("key", Role::In),
    binding("value", Role::In),
    binding("d_output", Role::In),
    binding("log_sum_exp", Role::In),
    binding("delta", Role::In),
];

/// Gradient for the queries.
pub static BACKWARD_QUERY: Kernel = Kernel {
    name: "attention_backward_query",
    variant: PORTABLE,
    source: shader!("attention_backward_query.wgsl"),
    shared: BACKWARD_SHARED,
    bindings: &{
        let [a, b, c, d, e, f] = BACKWARD_INPUTS;
        [a, b, c, d, e, f, binding("d_query", Role::Out)]
    },
    params: AttentionParams::LAYOUT,
};

/// Gradients for keys and values.
pub static BACKWARD_KEY_VALUE: Kernel = Kernel {
    name: "attention_backward_key_value",
    variant: PORTABLE,
    source: shader!("attention_backward_key_value.wgsl"),
    shared: BACKWARD_SHARED,
    bindings: &{
        let [a, b, c, d, e, f] = BACKWARD_INPUTS;
        [
            a,
            b,
            c,
            d,
            e,
            f,
            binding("d_key", Role::Out),
            binding("d_value", Role::Out),
        ]
    },
    params: AttentionParams::LAYOUT,
};

/// Sizes of an attention operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub time: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Elements of a head: even, at most [`MAX_HEAD_DIM`].
    pub head_dim: usize,
}

impl AttentionShape {
    fn params(self) -> AttentionParams {
        #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
        let scale = (1.0 / (self.head_dim as f64).sqrt()) as f32;
        AttentionParams {
            time: word(self.time),
            num_heads: word(self.num_heads),
            num_kv_heads: word(self.num_kv_heads),
            scale,
        }
    }

    /// One launch with a lane a position of each of `heads` heads. `products` counts the
    /// `[time, time]` matrix products of the mathematics, of which causality needs half.
    fn dispatch<const N: usize>(
        self,
        plan: &Plan,
        kernel: &'static Kernel,
        bindings: [Tensor; N],
        (heads, products): (usize, usize),
    ) -> Dispatch {
        let lanes = match plan.class() {
            AdapterClass::Gpu => 64,
            // Lanes of one vector run as long as the longest of them.
            AdapterClass::Software => 8,
        };
        let groups = self.time.div_ceil(lanes as usize);
        Dispatch::new(kernel, self.params(), bindings.map(Into::into))
            .constant("WORKGROUP_SIZE", lanes)
            .constant("HEAD_DIM", word(self.head_dim))
            .workgroups([word(groups), word(heads), word(self.batch)])
            .flops(products * self.batch * self.num_heads * self.time * self.time * self.head_dim)
    }
}

/// Queries, keys and values, after the rotary embedding: `[batch * time, heads * head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct Qkv {
    /// `[batch * time, num_heads * head_dim]`.
    pub query: Tensor,
    /// `[batch * time, num_kv_heads * head_dim]`.
    pub key: Tensor,
    /// `[batch * time, num_kv_heads * head_dim]`.
    pub value: Tensor,
}

/// Attends causally with scores scaled by `1 / sqrt(head_dim)`.
///
/// Returns the output `[batch * time, num_heads * head_dim]` and the log-sum-exp of each query
/// row's scores, `[batch * num_heads, time]`.
pub fn forward(plan: &mut Plan, qkv: Qkv, shape: AttentionShape) -> (Tensor, Tensor) {
    let output = plan.scratch("attended", qkv.query.rows, qkv.query.cols);
    let log_sum_exp = plan.scratch("log_sum_exp", shape.batch * shape.num_heads, shape.time);
    let bindings = [qkv.query, qkv.key, qkv.value, output, log_sum_exp];
    plan.push(shape.dispatch(plan, &FORWARD, bindings, (shape.num_heads, 2)));
    (output, log_sum_exp)
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// The rotated inputs.
    pub qkv: Qkv,
    /// `[batch * time, num_heads * head_dim]`.
    pub output: Tensor,
    /// `[batch * num_heads, time]`.
    pub log_sum_exp: Tensor,
}

/// Gradients for queries, keys and values, of their shapes, from that of the output.
pub fn backward(plan: &mut Plan, saved: Saved, d_output: Tensor, shape: AttentionShape) -> Qkv {
    let Qkv { query, key, value } = saved.qkv;
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.time);
    let params = DeltaParams {
        rows: word(query.rows),
        time: word(shape.time),
        num_heads: word(shape.num_heads),
        head_dim: word(shape.head_dim),
    };
    let bindings = [saved.output.into(), d_output.into(), delta.into()];
    plan.push(
        Dispatch::new(&BACKWARD_DELTA, params, bindings)
            .workgroups(flat_workgroups(delta.len(), FLAT_LANES))
            .flops(2 * d_output.len()),
    );
    let d_query = plan.scratch("d_query", query.rows, query.cols);
    let d_key = plan.scratch("d_key", key.rows, key.cols);
    let d_value = plan.scratch("d_value", value.rows, value.cols);
    let bindings = [
        query,
        key,
        value,
        d_output,
        saved.log_sum_exp,
        delta,
        d_query,
    ];
    plan.push(shape.dispatch(plan, &BACKWARD_QUERY, bindings, (shape.num_heads, 3)));
    let bindings = [
        query,
        key,
        value,
        d_output,
        saved.log_sum_exp,
        delta,
        d_key,
        d_value,
    ];
    plan.push(shape.dispatch(plan, &BACKWARD_KEY_VALUE, bindings, (shape.num_kv_heads, 4)));
    Qkv {
        query: d_query,
        key: d_key,
        value: d_value,
    }
}
