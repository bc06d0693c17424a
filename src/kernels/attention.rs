//! Fused causal attention with grouped key and value heads: no `[time, time]` buffer, forward by
//! online softmax, backward by recomputation from the log-sum-exp (Dao et al. 2022).

mod tables;
mod variants;

pub use tables::*;
pub use variants::{Pass, Use};

use super::family::choose;
use super::half::{halve, in_words};
use super::matmul_stage::stage;
use super::rope::{self, RopeTable};
use super::{FLAT_LANES, SUBGROUP_LANES, by_width};
use crate::gpu::dispatch::{Bound, flat_workgroups, word};
use crate::gpu::{AdapterClass, Dispatch, Kernel, Plan, Tensor, Window};
use crate::params;

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

/// Largest head whose sums fit the kernels' registers.
pub const MAX_HEAD_DIM: usize = 128;

/// Rows of a tile of the storage variants, queries or keys.
const TILE_ROWS: usize = 64;
/// Largest head whose gradients for keys and values both fit the registers of one launch.
const MAX_JOINT_HEAD_DIM: usize = 64;

/// Largest head of which a lane of the texture variants takes two rows.
const MAX_PAIRED_HEAD_DIM: usize = 64;

/// How the kernels read queries, keys, values and the output's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// From storage buffers, in tiles of workgroup memory: the portable variant, meant for GPUs.
    Storage,
    /// From textures, four elements a load: meant for software adapters.
    Texture,
    /// The same, where subgroups share what their lanes load.
    TextureSubgroup,
}

impl Variant {
    /// Rows of a workgroup, and the constants that make it so.
    fn workgroup(self, plan: &Plan, shape: AttentionShape) -> (usize, Vec<(&'static str, u32)>) {
        let pairs = shape.head_dim <= MAX_PAIRED_HEAD_DIM;
        match self {
            Self::Storage => (TILE_ROWS, Vec::new()),
            Self::TextureSubgroup => {
                let rows = if pairs { 2 } else { 1 };
                (SUBGROUP_LANES as usize * rows, vec![("ROWS", word(rows))])
            }
            Self::Texture => {
                let lanes = match plan.class() {
                    AdapterClass::Gpu => 64,
                    // Lanes of one vector run as long as the longest of them.
                    AdapterClass::Software => 8,
                };
                let rows = lanes as usize * if pairs { 2 } else { 1 };
                (
                    rows,
                    vec![("WORKGROUP_SIZE", lanes), ("PAIRS", pairs.into())],
                )
            }
        }
    }

    /// `tensor` as this variant reads it.
    fn read(self, plan: &mut Plan, tensor: Tensor) -> Bound {
        match self {
            Self::Storage => in_words(plan, tensor).into(),
            Self::Texture | Self::TextureSubgroup => stage(plan, Window::whole(tensor)).into(),
        }
    }
}

/// Sizes of an attention operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Queries of a sequence.
    pub query_rows: usize,
    /// Keys and values of a sequence, of which the last `query_rows` stand where the queries do.
    pub key_rows: usize,
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
            time: word(self.query_rows),
            num_heads: word(self.num_heads),
            num_kv_heads: word(self.num_kv_heads),
            scale,
        }
    }

    /// Operations of `products` `[query_rows, key_rows]` matrix products, of which causality needs
    /// half.
    fn flops(self, products: usize) -> usize {
        let scores = self.batch * self.num_heads * self.query_rows * self.key_rows;
        products * scores * self.head_dim
    }
}

/// One kernel over all queries or all keys of each of `heads` heads.
struct Launch<const N: usize> {
    variant: Variant,
    kernel: &'static Kernel,
    /// Each holds the sequences one after the other.
    bindings: [Bound; N],
    heads: usize,
    /// Queries or keys of a sequence: those of whose head a lane has a row.
    rows: usize,
    /// Matrix products of `[query_rows, key_rows]`.
    products: usize,
    constants: Vec<(&'static str, u32)>,
}

impl<const N: usize> Launch<N> {
    /// Pushes it: whole, or for some sequences after the other where their tensors are larger than
    /// a binding or all would take longer than a driver's watchdog allows. Textures are for
    /// software adapters, which no watchdog guards, and have limits of their own.
    fn push(&self, plan: &mut Plan, shape: AttentionShape) {
        if self.variant != Variant::Storage {
            return self.push_sequences(plan, shape, self.bindings);
        }
        let tensors = self.bindings.map(|bound| match bound {
            Bound::Tensor(t) => t.reshape(shape.batch, t.len() / shape.batch),
            Bound::Texture(t) => panic!("{t:?} for the storage variant"),
        });
        let flops = shape.flops(self.products) / shape.batch;
        for block in plan.row_blocks_of(&tensors, 1, flops) {
            let shape = AttentionShape {
                batch: block.len(),
                ..shape
            };
            let bindings = tensors.map(|t| t.slice_rows(block.start, block.len()).into());
            self.push_sequences(plan, shape, bindings);
        }
    }

    fn push_sequences(&self, plan: &mut Plan, shape: AttentionShape, bindings: [Bound; N]) {
        let mut dispatch = Dispatch::new(self.kernel, shape.params(), bindings);
        for &(name, value) in &self.constants {
            dispatch = dispatch.constant(name, value);
        }
        let (rows, constants) = self.variant.workgroup(plan, shape);
        for (name, value) in constants {
            dispatch = dispatch.constant(name, value);
        }
        let groups = [
            word(self.rows.div_ceil(rows)),
            word(self.heads),
            word(shape.batch),
        ];
        plan.push(
            dispatch
                .constant("HEAD_DIM", word(shape.head_dim))
                .workgroups(groups)
                .flops(shape.flops(self.products)),
        );
    }
}

/// Queries, keys and values, after the rotary embedding: `[rows, heads * head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct Qkv {
    /// `[rows, num_heads * head_dim]`.
    pub query: Tensor,
    /// `[rows, num_kv_heads * head_dim]`.
    pub key: Tensor,
    /// `[rows, num_kv_heads * head_dim]`.
    pub value: Tensor,
}

/// Attends causally with scores scaled by `1 / sqrt(head_dim)`.
///
/// Returns the output `[rows, num_heads * head_dim]` and the log-sum-exp of each query
/// row's scores, `[batch * num_heads, query_rows]`.
pub fn forward(plan: &mut Plan, qkv: Qkv, shape: AttentionShape) -> (Tensor, Tensor) {
    let pass = Pass::Forward;
    let variant = choose(plan, &Use { shape, pass });
    forward_by(plan, variant, qkv, shape)
}

/// [`forward`] by a given variant. From halves the output is one of halves too.
pub fn forward_by(
    plan: &mut Plan,
    variant: Variant,
    qkv: Qkv,
    shape: AttentionShape,
) -> (Tensor, Tensor) {
    let (output, log_sum_exp) = forward_to_words(plan, variant, qkv, shape);
    if qkv.query.is_halves() {
        return (halve(plan, output, None), log_sum_exp);
    }
    (output, log_sum_exp)
}

fn forward_to_words(
    plan: &mut Plan,
    variant: Variant,
    qkv: Qkv,
    shape: AttentionShape,
) -> (Tensor, Tensor) {
    let output = plan.scratch("attended", qkv.query.rows, qkv.query.cols);
    let log_sum_exp = plan.scratch(
        "log_sum_exp",
        shape.batch * shape.num_heads,
        shape.query_rows,
    );
    let [query, key, value] = [qkv.query, qkv.key, qkv.value].map(|t| variant.read(plan, t));
    let kernel = match variant {
        Variant::Storage => &FORWARD,
        Variant::Texture => &FORWARD_TEXTURE,
        Variant::TextureSubgroup => &FORWARD_TEXTURE_SUBGROUP,
    };
    let launch = Launch {
        variant,
        kernel,
        bindings: [query, key, value, output.into(), log_sum_exp.into()],
        heads: shape.num_heads,
        rows: shape.query_rows,
        products: 2,
        constants: Vec::new(),
    };
    launch.push(plan, shape);
    (output, log_sum_exp)
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// The inputs, with queries and keys rotated if `rotation` says so.
    pub qkv: Qkv,
    /// How they were rotated; gradients are turned back, to those of the unrotated ones.
    pub rotation: Option<RopeTable>,
    /// `[rows, num_heads * head_dim]`.
    pub output: Tensor,
    /// `[batch * num_heads, query_rows]`.
    pub log_sum_exp: Tensor,
}

/// Dot product of each head's output with its gradient, `[batch * num_heads, query_rows]`.
pub fn backward_delta(
    plan: &mut Plan,
    output: Tensor,
    d_output: Tensor,
    shape: AttentionShape,
) -> Tensor {
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.query_rows);
    let (kernel, width) = by_width(shape.head_dim, &BACKWARD_DELTA, &BACKWARD_DELTA_QUADS);
    let params = DeltaParams {
        rows: word(output.rows),
        time: word(shape.query_rows),
        num_heads: word(shape.num_heads),
        head_dim: word(shape.head_dim / width),
    };
    let bindings = [output.into(), d_output.into(), delta.into()];
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .workgroups(flat_workgroups(delta.len(), FLAT_LANES))
            .flops(2 * d_output.len()),
    );
    delta
}

/// Gradients for queries, keys and values before any rotation, of their shapes, from that of the
/// output.
pub fn backward(plan: &mut Plan, saved: Saved, d_output: Tensor, shape: AttentionShape) -> Qkv {
    let pass = Pass::Backward;
    let variant = choose(plan, &Use { shape, pass });
    backward_by(plan, variant, saved, d_output, shape)
}

/// [`backward`] by a given variant. From halves the gradients are halves too.
pub fn backward_by(
    plan: &mut Plan,
    variant: Variant,
    saved: Saved,
    d_output: Tensor,
    shape: AttentionShape,
) -> Qkv {
    let Qkv { query, key, value } = backward_to_words(plan, variant, saved, d_output, shape);
    if !d_output.is_halves() {
        return Qkv { query, key, value };
    }
    let [query, key, value] = [query, key, value].map(|gradient| halve(plan, gradient, None));
    Qkv { query, key, value }
}

fn backward_to_words(
    plan: &mut Plan,
    variant: Variant,
    saved: Saved,
    d_output: Tensor,
    shape: AttentionShape,
) -> Qkv {
    let Qkv { query, key, value } = saved.qkv;
    let gradients = Qkv {
        query: plan.scratch("d_query", query.rows, query.cols),
        key: plan.scratch("d_key", key.rows, key.cols),
        value: plan.scratch("d_value", value.rows, value.cols),
    };
    let [q, k, v, d_out] = [query, key, value, d_output].map(|t| variant.read(plan, t));
    let output = in_words(plan, saved.output);
    let saved = Saved { output, ..saved };
    if variant == Variant::TextureSubgroup {
        push_backward_subgroup(plan, saved, [q, k, v, d_out], gradients, shape);
        return gradients;
    }
    let d_output = match d_out {
        Bound::Tensor(words) => words,
        Bound::Texture(_) => in_words(plan, d_output),
    };
    let delta = backward_delta(plan, saved.output, d_output, shape);
    let inputs = [q, k, v, d_out, saved.log_sum_exp.into(), delta.into()];
    push_backward(plan, variant, inputs, gradients, shape);
    if let Some(table) = saved.rotation {
        rope::backward(plan, table, gradients.query, shape.num_heads);
        rope::backward(plan, table, gradients.key, shape.num_kv_heads);
    }
    gradients
}

/// The kernels that leave queries and keys rotated.
fn push_backward(
    plan: &mut Plan,
    variant: Variant,
    inputs: [Bound; 6],
    gradients: Qkv,
    shape: AttentionShape,
) {
    let [q, k, v, d_out, log_sum_exp, delta] = inputs;
    let (query_kernel, key_value_kernel) = match variant {
        Variant::Storage => (&BACKWARD_QUERY, &BACKWARD_KEY_VALUE),
        _ => (&BACKWARD_QUERY_TEXTURE, &BACKWARD_KEY_VALUE_TEXTURE),
    };
    let d_query = gradients.query.into();
    let launch = Launch {
        variant,
        kernel: query_kernel,
        bindings: [q, k, v, d_out, log_sum_exp, delta, d_query],
        heads: shape.num_heads,
        rows: shape.query_rows,
        products: 3,
        constants: Vec::new(),
    };
    launch.push(plan, shape);
    let (d_key, d_value) = (gradients.key.into(), gradients.value.into());
    // Which of both gradients each launch writes.
    let launches: &[(bool, bool)] = match variant {
        Variant::Storage if shape.head_dim > MAX_JOINT_HEAD_DIM => &[(true, false), (false, true)],
        _ => &[(true, true)],
    };
    for &(writes_key, writes_value) in launches {
        let constants = match variant {
            Variant::Storage => vec![
                ("WRITES_KEY", writes_key.into()),
                ("WRITES_VALUE", writes_value.into()),
            ],
            _ => Vec::new(),
        };
        let launch = Launch {
            variant,
            kernel: key_value_kernel,
            bindings: [q, k, v, d_out, log_sum_exp, delta, d_key, d_value],
            heads: shape.num_kv_heads,
            rows: shape.key_rows,
            products: 4 / launches.len(),
            constants,
        };
        launch.push(plan, shape);
    }
}

/// The kernels that turn gradients back on their way to memory, of which the first also computes what
/// [`backward_delta`] does.
fn push_backward_subgroup(
    plan: &mut Plan,
    saved: Saved,
    [q, k, v, d_out]: [Bound; 4],
    gradients: Qkv,
    shape: AttentionShape,
) {
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.query_rows);
    let (log_sum_exp, delta) = (saved.log_sum_exp.into(), delta.into());
    let output = saved.output.into();
    // Bound, but not read where nothing was rotated.
    let angles = saved.rotation.map_or(log_sum_exp, |t| t.angles.into());
    let rotated = ("ROTATED", saved.rotation.is_some().into());
    let d_query = gradients.query.into();
    let launch = Launch {
        variant: Variant::TextureSubgroup,
        kernel: &BACKWARD_QUERY_TEXTURE_SUBGROUP,
        bindings: [q, k, v, d_out, output, log_sum_exp, angles, d_query, delta],
        heads: shape.num_heads,
        rows: shape.query_rows,
        products: 3,
        constants: vec![rotated],
    };
    launch.push(plan, shape);
    let (d_key, d_value) = (gradients.key.into(), gradients.value.into());
    let launch = Launch {
        variant: Variant::TextureSubgroup,
        kernel: &BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
        bindings: [q, k, v, d_out, log_sum_exp, delta, angles, d_key, d_value],
        heads: shape.num_kv_heads,
        rows: shape.key_rows,
        products: 4,
        constants: vec![rotated],
    };
    launch.push(plan, shape);
}
