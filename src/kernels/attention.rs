//! Fused causal attention with grouped key and value heads: no `[time, time]` buffer, forward by
//! online softmax, backward by recomputation from the log-sum-exp (Dao et al. 2022).

mod tables;
mod variants;

pub use tables::*;
pub use variants::{Pass, Use};

use super::family::choose;
use super::half::{halve, in_words};
use super::matmul_stage::stage;
use super::rope::RopeTable;
use super::{SUBGROUP_LANES, SUBGROUPS_OF_MATRICES};
use crate::gpu::dispatch::{Bound, word};
use crate::gpu::{AdapterClass, Dispatch, Elements, Kernel, Plan, Tensor, Window};
use crate::params;

params!(AttentionParams {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    row_stride: u32,
    key_first: u32,
    value_first: u32
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
    /// The same from halves to halves.
    StorageF16,
    /// The same by cooperative matrices of 16x16.
    Cooperative,
    /// The same by those of 8x8.
    Cooperative8x8,
    /// From textures, four elements a load: meant for software adapters.
    Texture,
    /// The same, where subgroups share what their lanes load.
    TextureSubgroup,
}

impl Variant {
    /// Whether it can keep documents of a row apart.
    pub fn tells_documents_apart(self) -> bool {
        let bindings = self.forward_kernel().bindings;
        bindings
            .iter()
            .any(|binding| binding.name == "document_first")
    }

    /// `bindings`, and behind them what tells documents apart, or what is bound in its place.
    fn with_documents(
        self,
        mut bindings: Vec<Bound>,
        documents: Option<Tensor>,
        unread: Tensor,
    ) -> Vec<Bound> {
        // A row, since every binding has a limit.
        let bound = Bound::from(documents.unwrap_or_else(|| unread.slice_rows(0, 1)));
        bindings.extend(self.tells_documents_apart().then_some(bound));
        bindings
    }

    /// Which of both gradients, of keys and of values, each launch writes.
    fn key_value_launches(self, shape: AttentionShape) -> &'static [(bool, bool)] {
        match self.is_tiled() && shape.head_dim > MAX_JOINT_HEAD_DIM {
            true => &[(true, false), (false, true)],
            false => &[(true, true)],
        }
    }

    /// Rows of a workgroup, and the constants that make it so.
    fn workgroup(self, plan: &Plan, shape: AttentionShape) -> (usize, Vec<(&'static str, u32)>) {
        let pairs = shape.head_dim <= MAX_PAIRED_HEAD_DIM;
        match self {
            Self::Storage | Self::StorageF16 => (TILE_ROWS, Vec::new()),
            Self::Cooperative | Self::Cooperative8x8 => {
                let side = self.forward_kernel().matrix_side().unwrap_or_default();
                let rows = SUBGROUPS_OF_MATRICES * side;
                let lanes =
                    SUBGROUPS_OF_MATRICES * plan.target().largest_subgroup_with_matrices(side);
                (rows as usize, vec![("LANES", lanes.max(rows))])
            }
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

    /// Queries, keys and values as a tensor of what this variant reads, if it reads tensors.
    fn read_qkv(self, plan: &mut Plan, qkv: Qkv) -> Qkv {
        match self {
            Self::Storage => qkv.of(in_words(plan, qkv.tensor)),
            _ => qkv,
        }
    }

    /// Whether it reads tensors, in tiles of workgroup memory.
    fn is_tiled(self) -> bool {
        self == Self::Storage || self.is_of_halves()
    }

    /// Whether it reads and writes halves.
    pub fn is_of_halves(self) -> bool {
        self.forward_kernel().bindings[0].elements == Some(Elements::Halves)
    }

    /// Whether probabilities and their gradients are rounded to halves before they meet values, keys and queries.
    pub fn rounds_weights(self) -> bool {
        self.forward_kernel().matrix_side().is_some()
    }

    fn forward_kernel(self) -> &'static Kernel {
        match self {
            Self::Storage => &FORWARD,
            Self::StorageF16 => &FORWARD_F16,
            Self::Cooperative => &FORWARD_COOPERATIVE,
            Self::Cooperative8x8 => &FORWARD_COOPERATIVE_8X8,
            Self::Texture => &FORWARD_TEXTURE,
            Self::TextureSubgroup => &FORWARD_TEXTURE_SUBGROUP,
        }
    }

    /// Those for queries, and for keys and values.
    fn backward_kernels(self) -> (&'static Kernel, &'static Kernel) {
        match self {
            Self::Storage => (&BACKWARD_QUERY, &BACKWARD_KEY_VALUE),
            Self::StorageF16 => (&BACKWARD_QUERY_F16, &BACKWARD_KEY_VALUE_F16),
            Self::Cooperative => (&BACKWARD_QUERY_COOPERATIVE, &BACKWARD_KEY_VALUE_COOPERATIVE),
            Self::Cooperative8x8 => (
                &BACKWARD_QUERY_COOPERATIVE_8X8,
                &BACKWARD_KEY_VALUE_COOPERATIVE_8X8,
            ),
            Self::Texture => (&BACKWARD_QUERY_TEXTURE, &BACKWARD_KEY_VALUE_TEXTURE),
            Self::TextureSubgroup => (
                &BACKWARD_QUERY_TEXTURE_SUBGROUP,
                &BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
            ),
        }
    }

    /// `tensor` as this variant reads it.
    fn read(self, plan: &mut Plan, tensor: Tensor) -> Bound {
        match self {
            Self::Storage => in_words(plan, tensor).into(),
            Self::Texture | Self::TextureSubgroup => stage(plan, Window::whole(tensor)).into(),
            _ => tensor.into(),
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
    fn params(self, qkv: Qkv) -> AttentionParams {
        #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
        let scale = (1.0 / (self.head_dim as f64).sqrt()) as f32;
        AttentionParams {
            time: word(self.query_rows),
            num_heads: word(self.num_heads),
            num_kv_heads: word(self.num_kv_heads),
            scale,
            row_stride: word(qkv.tensor.row_stride),
            key_first: word(qkv.key_first),
            value_first: word(qkv.value_first),
        }
    }

    /// Columns of queries, keys and values side by side.
    pub fn qkv_cols(self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }

    /// Queries, keys and values of this shape in a tensor that has them side by side without gaps.
    ///
    /// # Panics
    /// If it has other columns: a bug of the caller.
    pub fn qkv(self, tensor: Tensor) -> Qkv {
        assert_eq!(tensor.cols, self.qkv_cols(), "{self:?} in {tensor:?}");
        let key_first = self.num_heads * self.head_dim;
        Qkv {
            tensor,
            key_first,
            value_first: key_first + self.num_kv_heads * self.head_dim,
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
struct Launch {
    variant: Variant,
    kernel: &'static Kernel,
    /// As the kernel reads them, or writes their gradients.
    qkv: Qkv,
    /// Each holds the sequences one after the other.
    bindings: Vec<Bound>,
    /// Whether the last of them tells documents apart.
    documents: bool,
    heads: usize,
    /// Queries or keys of a sequence: those of whose head a lane has a row.
    rows: usize,
    /// Matrix products of `[query_rows, key_rows]`.
    products: usize,
    constants: Vec<(&'static str, u32)>,
}

impl Launch {
    /// Pushes it: whole, or for some sequences after the other where their tensors are larger than
    /// a binding or all would take longer than a driver's watchdog allows. Textures are for
    /// software adapters, which no watchdog guards, and have limits of their own.
    fn push(&self, plan: &mut Plan, shape: AttentionShape) {
        if !self.variant.is_tiled() {
            return self.push_sequences(plan, shape, self.bindings.clone());
        }
        // Angles are of positions, and serve every sequence.
        let is_of_sequences = |number: usize| match self.kernel.bindings[number].name {
            "angles" => false,
            "document_first" | "document_end" => self.documents,
            _ => true,
        };
        let of_sequences = |number: usize| match self.bindings[number] {
            Bound::Tensor(tensor) if is_of_sequences(number) => Some(tensor.sequences(shape.batch)),
            _ => None,
        };
        let count = self.bindings.len();
        let tensors: Vec<_> = (0..count).filter_map(of_sequences).collect();
        let flops = shape.flops(self.products) / shape.batch;
        for block in plan.row_blocks_of(&tensors, 1, flops) {
            let shape = AttentionShape {
                batch: block.len(),
                ..shape
            };
            let part = |number: usize| match of_sequences(number) {
                Some(tensor) => tensor.slice_rows(block.start, block.len()).into(),
                None => self.bindings[number],
            };
            self.push_sequences(plan, shape, (0..count).map(part).collect());
        }
    }

    fn push_sequences(&self, plan: &mut Plan, shape: AttentionShape, bindings: Vec<Bound>) {
        let mut dispatch = Dispatch {
            bindings,
            ..Dispatch::new(self.kernel, shape.params(self.qkv), [])
        };
        if self.documents {
            dispatch = dispatch.constant("DOCUMENTS", 1);
        }
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

/// Queries, keys and values after the rotary embedding, or the gradients of these, side by side in the rows of
/// one tensor: queries from its first column on.
#[derive(Clone, Copy, Debug)]
pub struct Qkv {
    /// `[rows, columns of all three, and perhaps of gaps between them]`.
    pub tensor: Tensor,
    /// First column of the keys.
    pub key_first: usize,
    /// First column of the values.
    pub value_first: usize,
}

impl Qkv {
    /// The same columns of another tensor.
    fn of(self, tensor: Tensor) -> Self {
        Self { tensor, ..self }
    }
}

/// Documents that share rows without seeing each other: positions count from the beginning of each row.
#[derive(Clone, Copy, Debug)]
pub struct Documents {
    /// `[batch * time]`: the first position of each position's document.
    pub first: Tensor,
    /// `[batch * time]`: the one behind the last position of it.
    pub end: Tensor,
}

/// Attends causally with scores scaled by `1 / sqrt(head_dim)`; within each of `documents`, if there are some.
///
/// Returns the output `[rows, num_heads * head_dim]` and the log-sum-exp of each query
/// row's scores, `[batch * num_heads, query_rows]`.
pub fn forward(
    plan: &mut Plan,
    qkv: Qkv,
    shape: AttentionShape,
    documents: Option<Documents>,
) -> (Tensor, Tensor) {
    let pass = Pass::Forward;
    let operands = qkv.tensor.elements;
    let used = Use {
        shape,
        pass,
        operands,
        documents: documents.is_some(),
    };
    let variant = choose(plan, &used);
    forward_by(plan, variant, qkv, shape, documents)
}

/// [`forward`] by a given variant. From halves the output is one of halves too.
pub fn forward_by(
    plan: &mut Plan,
    variant: Variant,
    qkv: Qkv,
    shape: AttentionShape,
    documents: Option<Documents>,
) -> (Tensor, Tensor) {
    let (rows, cols) = (qkv.tensor.rows, shape.num_heads * shape.head_dim);
    let output = if variant.is_of_halves() {
        plan.scratch_halves("attended", rows, cols)
    } else {
        plan.scratch("attended", rows, cols)
    };
    let log_sum_exp = push_forward(plan, variant, (qkv, documents), output, shape);
    if qkv.tensor.is_halves() && !output.is_halves() {
        return (halve(plan, output, None), log_sum_exp);
    }
    (output, log_sum_exp)
}

fn push_forward(
    plan: &mut Plan,
    variant: Variant,
    (qkv, documents): (Qkv, Option<Documents>),
    output: Tensor,
    shape: AttentionShape,
) -> Tensor {
    let log_sum_exp = plan.scratch(
        "log_sum_exp",
        shape.batch * shape.num_heads,
        shape.query_rows,
    );
    let qkv = variant.read_qkv(plan, qkv);
    let launch = Launch {
        variant,
        kernel: variant.forward_kernel(),
        qkv,
        bindings: {
            let operands = variant.read(plan, qkv.tensor);
            let bindings = vec![operands, output.into(), log_sum_exp.into()];
            variant.with_documents(bindings, documents.map(|d| d.first), qkv.tensor)
        },
        documents: documents.is_some(),
        heads: shape.num_heads,
        rows: shape.query_rows,
        products: 2,
        constants: Vec::new(),
    };
    launch.push(plan, shape);
    log_sum_exp
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
    /// Those that it kept apart.
    pub documents: Option<Documents>,
}

/// Gradients for queries, keys and values before any rotation, which lie as these do, from that of the
/// output.
pub fn backward(plan: &mut Plan, saved: Saved, d_output: Tensor, shape: AttentionShape) -> Qkv {
    let pass = Pass::Backward;
    let operands = d_output.elements;
    let used = Use {
        shape,
        pass,
        operands,
        documents: saved.documents.is_some(),
    };
    let variant = choose(plan, &used);
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
    let gradients = push_backward(plan, variant, saved, d_output, shape);
    if d_output.is_halves() && !gradients.tensor.is_halves() {
        return gradients.of(halve(plan, gradients.tensor, None));
    }
    gradients
}

fn push_backward(
    plan: &mut Plan,
    variant: Variant,
    saved: Saved,
    d_output: Tensor,
    shape: AttentionShape,
) -> Qkv {
    let (query_kernel, key_value_kernel) = variant.backward_kernels();
    for tensor in [saved.output, d_output] {
        let is_plain = tensor.is_halves() || tensor.is_dense();
        assert!(is_plain, "heads in rows with gaps: {tensor:?}");
    }
    let qkv = variant.read_qkv(plan, saved.qkv);
    let d_qkv = if variant.is_tiled() || !qkv.tensor.is_halves() {
        plan.scratch_like("d_qkv", qkv.tensor)
    } else {
        plan.scratch_rows("d_qkv", qkv.tensor.rows, qkv.tensor.cols)
    };
    let delta = plan.scratch("delta", shape.batch * shape.num_heads, shape.query_rows);
    let operands = variant.read(plan, qkv.tensor);
    let d_out = variant.read(plan, d_output);
    let output = if variant.is_of_halves() {
        saved.output
    } else {
        in_words(plan, saved.output)
    };
    let log_sum_exp = saved.log_sum_exp.into();
    let angles = match saved.rotation {
        Some(table) => table.angles,
        // Bound, but not read.
        None => saved.log_sum_exp.slice_rows(0, 1),
    };
    let rotated = ("ROTATED", saved.rotation.is_some().into());
    let launch = Launch {
        variant,
        kernel: query_kernel,
        qkv: qkv.of(d_qkv),
        bindings: {
            let results = [angles, d_qkv, delta].map(Bound::from);
            let given = [operands, d_out, output.into(), log_sum_exp];
            let first = saved.documents.map(|documents| documents.first);
            variant.with_documents([&given[..], &results].concat(), first, saved.log_sum_exp)
        },
        documents: saved.documents.is_some(),
        heads: shape.num_heads,
        rows: shape.query_rows,
        products: 3,
        constants: vec![rotated],
    };
    launch.push(plan, shape);
    let launches = variant.key_value_launches(shape);
    for &(writes_key, writes_value) in launches {
        let mut constants = vec![rotated];
        if variant.is_tiled() {
            constants.push(("WRITES_KEY", writes_key.into()));
            constants.push(("WRITES_VALUE", writes_value.into()));
        }
        let launch = Launch {
            variant,
            kernel: key_value_kernel,
            qkv: qkv.of(d_qkv),
            bindings: {
                let others = [delta, angles, d_qkv].map(Bound::from);
                let given = [operands, d_out, log_sum_exp];
                let end = saved.documents.map(|documents| documents.end);
                variant.with_documents([given, others].concat(), end, saved.log_sum_exp)
            },
            documents: saved.documents.is_some(),
            heads: shape.num_kv_heads,
            rows: shape.key_rows,
            products: 4 / launches.len(),
            constants,
        };
        launch.push(plan, shape);
    }
    qkv.of(d_qkv)
}
