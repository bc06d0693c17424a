//! Fused causal attention with grouped key and value heads: no `[time, time]` buffer, forward by
//! online softmax, backward by recomputation from the log-sum-exp (Dao et al. 2022).

mod tables;

pub use tables::*;

use super::matmul::{SUBGROUP_LANES, TEXTURE_SIDE};
use super::matmul_stage::stage;
use super::rope::{self, RopeTable};
use super::{FLAT_LANES, by_width};
use crate::gpu::dispatch::{Bound, flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
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
    /// The variant for a plan where nothing was measured. A head must be whole texels, and a
    /// sequence's rows must fit a texture's side.
    fn for_plan(plan: &Plan, shape: AttentionShape) -> Self {
        let fits = shape.head_dim.is_multiple_of(4)
            && shape.batch * shape.time <= TEXTURE_SIDE
            && shape.num_heads * shape.head_dim <= 4 * TEXTURE_SIDE;
        let shares = plan.target().subgroup_size == Some(SUBGROUP_LANES);
        let choices = &plan.target().choices;
        let forced = choices.forced_variant("attention");
        let obstacle = match forced {
            Some("texture" | "texture_subgroup") if !fits => {
                Some("a head is no whole texels, or a side of a texture too short")
            }
            Some("texture_subgroup") if !shares => Some("it needs subgroups of 8 lanes"),
            _ => None,
        };
        if let (Some(name), Some(obstacle)) = (forced, obstacle) {
            choices.warn_once(&format!(
                "attention goes without attention.{name}: {obstacle}"
            ));
        }
        match (forced, plan.class()) {
            (Some("texture"), _) if fits => Self::Texture,
            (Some("texture_subgroup"), _) if fits && shares => Self::TextureSubgroup,
            (Some(PORTABLE), _) => Self::Storage,
            (_, AdapterClass::Software) if fits && shares => Self::TextureSubgroup,
            (_, AdapterClass::Software) if fits => Self::Texture,
            _ => Self::Storage,
        }
    }

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
            Self::Storage => tensor.into(),
            Self::Texture | Self::TextureSubgroup => stage(plan, Window::whole(tensor)).into(),
        }
    }
}

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

    /// Operations of `products` `[time, time]` matrix products, of which causality needs half.
    fn flops(self, products: usize) -> usize {
        products * self.batch * self.num_heads * self.time * self.time * self.head_dim
    }
}

/// One kernel over all positions of each of `heads` heads.
struct Launch<const N: usize> {
    variant: Variant,
    kernel: &'static Kernel,
    /// Each holds the sequences one after the other.
    bindings: [Bound; N],
    heads: usize,
    /// Matrix products of `[time, time]`.
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
            word(shape.time.div_ceil(rows)),
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
    forward_by(plan, Variant::for_plan(plan, shape), qkv, shape)
}

/// [`forward`] by a given variant.
pub fn forward_by(
    plan: &mut Plan,
    variant: Variant,
    qkv: Qkv,
    shape: AttentionShape,
) -> (Tensor, Tensor) {
    let output = plan.scratch("attended", qkv.query.rows, qkv.query.cols);
    let log_sum_exp = plan.scratch("log_sum_exp", shape.batch * shape.num_heads, shape.time);
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
    /// `[batch * time, num_heads * head_dim]`.
    pub output: Tensor,
    /// `[batch * num_heads, time]`.
    pub log_sum_exp: Tensor,
}

/// Dot product of each head's output with its gradient, `[batch * num_heads, time]`.
pub fn backward_delta(
    plan: &mut Plan,
    output: Tensor,
    d_output: Tensor,
    shape: AttentionShape,
) -> Tensor {
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.time);
    let (kernel, width) = by_width(shape.head_dim, &BACKWARD_DELTA, &BACKWARD_DELTA_QUADS);
    let params = DeltaParams {
        rows: word(output.rows),
        time: word(shape.time),
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
    backward_by(plan, Variant::for_plan(plan, shape), saved, d_output, shape)
}

/// [`backward`] by a given variant.
pub fn backward_by(
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
    if variant == Variant::TextureSubgroup {
        push_backward_subgroup(plan, saved, [q, k, v, d_out], gradients, shape);
        return gradients;
    }
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
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.time);
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
        products: 4,
        constants: vec![rotated],
    };
    launch.push(plan, shape);
}
