//! Attention over the keys and values that a cache keeps of earlier positions: decoding.
//!
//! A cache of a layer has slots, one a sequence, of so many positions. Keys are kept as they were rotated, so
//! that in a full slot the newest position can take the oldest one's place: only the distance of two positions
//! matters to their score.

use super::attention::Qkv;
use super::{FLAT_LANES, SUBGROUPS, binding, halves};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{AdapterClass, Dispatch, Elements, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(CachedParams {
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    capacity: u32,
    row_stride: u32,
    key_first: u32,
    value_first: u32,
    output_stride: u32
});
params!(FillParams {
    rows: u32,
    num_kv_heads: u32,
    capacity: u32,
    row_stride: u32,
    key_first: u32,
    value_first: u32
});

/// Attention of one query a sequence.
pub static CACHED: Kernel = Kernel {
    name: "attention_cached",
    variant: PORTABLE,
    source: shader!("attention/attention_cached.wgsl"),
    bindings: &[
        binding("qkv", Role::In),
        binding("places", Role::In),
        binding("cache", Role::InOut),
        binding("output", Role::Out),
    ],
    params: CachedParams::LAYOUT,
    requires: &[],
};

/// [`CACHED`] for halves.
pub static CACHED_F16: Kernel = Kernel {
    variant: PORTABLE_F16,
    bindings: &[
        halves("qkv", Role::In),
        binding("places", Role::In),
        halves("cache", Role::InOut),
        halves("output", Role::Out),
    ],
    ..CACHED
};

/// [`CACHED`] by one subgroup a head: for software adapters.
pub static CACHED_SUBGROUP: Kernel = Kernel {
    variant: "subgroup",
    source: shader!("attention/attention_cached.subgroup.wgsl"),
    requires: SUBGROUPS,
    ..CACHED
};

/// [`CACHED_SUBGROUP`] for halves.
pub static CACHED_SUBGROUP_F16: Kernel = Kernel {
    variant: "subgroup_f16",
    bindings: CACHED_F16.bindings,
    ..CACHED_SUBGROUP
};

/// Keeps the keys and values of a sequence.
pub static FILL: Kernel = Kernel {
    name: "attention_cache_fill",
    variant: PORTABLE,
    source: shader!("attention/attention_cache_fill.wgsl"),
    bindings: &[
        binding("qkv", Role::In),
        binding("places", Role::In),
        binding("cache", Role::InOut),
    ],
    params: FillParams::LAYOUT,
    requires: &[],
};

/// [`FILL`] for halves.
pub static FILL_F16: Kernel = Kernel {
    variant: PORTABLE_F16,
    bindings: &[
        halves("qkv", Role::In),
        binding("places", Role::In),
        halves("cache", Role::InOut),
    ],
    ..FILL
};

const PORTABLE_F16: &str = "portable_f16";

/// The slot of a row that stands for no sequence: it attends to nothing, and gives zeros.
pub const NO_SLOT: u32 = u32::MAX;

/// Sizes of a layer's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Sequences.
    pub slots: usize,
    /// Positions of a sequence.
    pub capacity: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// Elements of a slot: keys and values of each head, which are filled up to whole quads.
    pub fn slot_len(self) -> usize {
        2 * self.num_kv_heads * self.capacity * self.head_dim.next_multiple_of(4)
    }

    /// Words of the cache.
    pub fn words(self, elements: Elements) -> usize {
        self.slots * self.slot_len() / elements.per_word()
    }
}

/// A layer's cache.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// `[slots, num_kv_heads, keys and values, capacity, head_dim]`, of what queries consist of.
    pub tensor: Tensor,
    /// Its sizes.
    pub shape: CacheShape,
    /// Slot and position of each row, `[rows, 2]`: the slot alone counts where a cache is filled.
    pub places: Tensor,
}

/// How the cache is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// By a workgroup a head: the portable variant.
    Workgroup,
    /// By a subgroup a head: for software adapters.
    Subgroup,
}

impl Variant {
    /// The one for a plan's adapter. What a row gives must not depend on what was timed, so none is.
    fn of(plan: &Plan) -> Self {
        let is_software = plan.class() == AdapterClass::Software;
        if is_software && plan.target().obstacle(&CACHED_SUBGROUP).is_none() {
            Self::Subgroup
        } else {
            Self::Workgroup
        }
    }

    fn kernel(self, elements: Elements) -> &'static Kernel {
        match (self, elements) {
            (Self::Workgroup, Elements::Words) => &CACHED,
            (Self::Workgroup, Elements::Halves) => &CACHED_F16,
            (Self::Subgroup, Elements::Words) => &CACHED_SUBGROUP,
            (Self::Subgroup, Elements::Halves) => &CACHED_SUBGROUP_F16,
        }
    }
}

/// Adds each row's key and value to its slot, and attends to all that the slot then holds, at most
/// `capacity` positions: `[rows, num_heads * head_dim]`.
///
/// Rows have slots of their own, and what one gives does not depend on the others.
pub fn attend(plan: &mut Plan, qkv: Qkv, cache: Cache) -> Tensor {
    let variant = Variant::of(plan);
    attend_by(plan, variant, qkv, cache)
}

/// [`attend`] by a given variant.
pub fn attend_by(plan: &mut Plan, variant: Variant, qkv: Qkv, cache: Cache) -> Tensor {
    let shape = cache.shape;
    let (rows, cols) = (qkv.tensor.rows, shape.num_heads * shape.head_dim);
    let output = plan.scratch_of(qkv.tensor.elements, "attended", rows, cols);
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    let scale = (1.0 / (shape.head_dim as f64).sqrt()) as f32;
    let params = CachedParams {
        num_heads: word(shape.num_heads),
        num_kv_heads: word(shape.num_kv_heads),
        scale,
        capacity: word(shape.capacity),
        row_stride: word(qkv.tensor.row_stride),
        key_first: word(qkv.key_first),
        value_first: word(qkv.value_first),
        output_stride: word(output.row_stride),
    };
    let bindings = [
        qkv.tensor.into(),
        cache.places.into(),
        cache.tensor.into(),
        output.into(),
    ];
    let dispatch = Dispatch::new(variant.kernel(qkv.tensor.elements), params, bindings)
        .constant("HEAD_DIM", word(shape.head_dim));
    let dispatch = match variant {
        Variant::Subgroup => dispatch,
        Variant::Workgroup => {
            let heads = (shape.num_heads / shape.num_kv_heads).min(4);
            let lanes = match plan.class() {
                AdapterClass::Gpu => 64,
                // As many as the quads of the largest head: each barrier is dear.
                AdapterClass::Software => 32,
            };
            dispatch
                .constant("HEADS", word(heads))
                .constant("LANES", lanes)
        }
    };
    plan.push(
        dispatch
            .workgroups([word(shape.num_kv_heads), word(rows), 1])
            .flops(4 * rows * cols * shape.capacity),
    );
    output
}

/// Keeps the keys and values of all rows, at most `capacity`, from the first position of one slot on.
///
/// # Panics
/// If there are more rows: a bug of the caller.
pub fn fill(plan: &mut Plan, qkv: Qkv, cache: Cache) {
    let shape = cache.shape;
    let rows = qkv.tensor.rows;
    assert!(rows <= shape.capacity, "{rows} rows of {shape:?}");
    let kernel = if qkv.tensor.is_halves() {
        &FILL_F16
    } else {
        &FILL
    };
    let params = FillParams {
        rows: word(rows),
        num_kv_heads: word(shape.num_kv_heads),
        capacity: word(shape.capacity),
        row_stride: word(qkv.tensor.row_stride),
        key_first: word(qkv.key_first),
        value_first: word(qkv.value_first),
    };
    let bindings = [qkv.tensor.into(), cache.places.into(), cache.tensor.into()];
    let quads = 2 * shape.num_kv_heads * rows * shape.head_dim.div_ceil(4);
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .constant("HEAD_DIM", word(shape.head_dim))
            .workgroups(flat_workgroups(quads, FLAT_LANES)),
    );
}
