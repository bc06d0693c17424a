//! Rows of attention over a cache: heads of every size, groups of any number, slots that are empty, full, and
//! longer than what all lanes take at once.

use super::Table;
use crate::check::Case;
use crate::check::case::Data;
use crate::gpu::{AdapterClass, Elements, Tensor};
use crate::kernels::attention::Qkv;
use crate::kernels::attention_cache::{self as cache, Cache, CacheShape, NO_SLOT, Variant};
use crate::reference::attention_cache::{self as reference, Row};

/// `(capacity, num_heads, num_kv_heads, head_dim)`.
const SHAPES: [(usize, usize, usize, usize); 7] = [
    (1, 1, 1, 16),
    (70, 2, 2, 64),
    (40, 4, 1, 32),
    (33, 6, 2, 16),
    (5, 5, 1, 2),
    (130, 4, 2, 6),
    (9, 2, 1, 128),
];

/// The position of each row's query, in a cache of so many positions.
fn positions(capacity: usize) -> [Option<usize>; 5] {
    [
        Some(0),
        Some(capacity - 1),
        None,
        Some(capacity),
        Some(3 * capacity + capacity / 2),
    ]
}

pub(super) fn rows(table: &mut Table) {
    for (capacity, num_heads, num_kv_heads, head_dim) in SHAPES {
        let shape = CacheShape {
            slots: 6,
            capacity,
            num_heads,
            num_kv_heads,
            head_dim,
        };
        let label = format!("heads {num_heads}/{num_kv_heads}x{head_dim}, capacity {capacity}");
        let kernels = [
            (
                Elements::Words,
                &cache::CACHED,
                &cache::CACHED_SUBGROUP,
                &cache::FILL,
            ),
            (
                Elements::Halves,
                &cache::CACHED_F16,
                &cache::CACHED_SUBGROUP_F16,
                &cache::FILL_F16,
            ),
        ];
        for (elements, cached, subgroup, fill) in kernels {
            // Each width is a pipeline of its own, and halves differ in their loads alone.
            if elements == Elements::Halves && ![6, 32, 128].contains(&head_dim) {
                continue;
            }
            table.add_for(
                AdapterClass::Software,
                subgroup,
                label.clone(),
                move |case| {
                    attend(case, shape, elements, Variant::Subgroup);
                },
            );
            for class in [AdapterClass::Gpu, AdapterClass::Software] {
                table.add_for(class, cached, label.clone(), move |case| {
                    attend(case, shape, elements, Variant::Workgroup);
                });
            }
            if [6, 32].contains(&head_dim) {
                table.add_once(fill, label.clone(), move |case| {
                    filled(case, shape, elements);
                });
            }
        }
    }
}

/// Queries, keys and values of `rows` positions with gaps between them, as the kernels take them.
fn qkv(case: &mut Case, shape: CacheShape, elements: Elements, rows: usize) -> (Data, Qkv) {
    let of = |heads: usize| (heads * shape.head_dim).next_multiple_of(8);
    let (key_first, kv_cols) = (of(shape.num_heads), of(shape.num_kv_heads));
    let value_first = key_first + kv_cols;
    let data = case.random_of(elements, rows, value_first + kv_cols, 1.0);
    let qkv = Qkv {
        tensor: data.tensor,
        key_first,
        value_first,
    };
    (data, qkv)
}

/// What a row of `qkv` consists of.
fn row_of(shape: CacheShape, row: &[f64], qkv: Qkv) -> Row<'_> {
    let columns = |first: usize, heads: usize| &row[first..first + heads * shape.head_dim];
    Row {
        query: columns(0, shape.num_heads),
        key: columns(qkv.key_first, shape.num_kv_heads),
        value: columns(qkv.value_first, shape.num_kv_heads),
    }
}

fn reference_shape(shape: CacheShape) -> reference::CacheShape {
    reference::CacheShape {
        capacity: shape.capacity,
        num_heads: shape.num_heads,
        num_kv_heads: shape.num_kv_heads,
        head_dim: shape.head_dim,
    }
}

fn attend(case: &mut Case, shape: CacheShape, elements: Elements, variant: Variant) {
    let positions = positions(shape.capacity);
    let (data, qkv) = qkv(case, shape, elements, positions.len());
    let before = case.random_of(elements, 1, shape.slots * shape.slot_len(), 1.0);
    let slots = [4, 0, 5, 3, 1];
    let places: Vec<u32> = positions
        .iter()
        .zip(slots)
        .flat_map(|(position, slot)| match position {
            #[allow(clippy::cast_possible_truncation, reason = "a few")]
            Some(position) => [slot as u32, *position as u32],
            None => [NO_SLOT, 7],
        })
        .collect();
    let cache = Cache {
        tensor: before.tensor,
        shape,
        places: case.words(&places),
    };
    let output = cache::attend_by(&mut case.plan, variant, qkv, cache);
    let mut after = before.values;
    let mut want = Vec::new();
    let cols = data.values.len() / positions.len();
    for ((row, position), slot) in data.values.chunks(cols).zip(positions).zip(slots) {
        let row = row_of(shape, row, qkv);
        want.extend(match position {
            Some(position) => {
                reference::attend(&mut after, slot, position, row, reference_shape(shape))
            }
            None => vec![0.0; row.query.len()],
        });
    }
    expect(case, "output", output, want);
    case.expect_exactly("cache", before.tensor, &after);
}

fn filled(case: &mut Case, shape: CacheShape, elements: Elements) {
    const SLOT: usize = 2;
    let rows = shape.capacity.div_ceil(2);
    let (data, qkv) = qkv(case, shape, elements, rows);
    let before = case.random_of(elements, 1, shape.slots * shape.slot_len(), 1.0);
    let cache = Cache {
        tensor: before.tensor,
        shape,
        places: case.words(&[2, 0]),
    };
    cache::fill(&mut case.plan, qkv, cache);
    let mut after = before.values;
    for (index, row) in data.values.chunks(data.values.len() / rows).enumerate() {
        let row = row_of(shape, row, qkv);
        reference::keep(&mut after, SLOT, index, row, reference_shape(shape));
    }
    case.expect_exactly("cache", before.tensor, &after);
}

fn expect(case: &mut Case, name: &'static str, tensor: Tensor, want: Vec<f64>) {
    if tensor.is_halves() {
        case.expect_halves(name, tensor, want);
    } else {
        case.expect(name, tensor, want);
    }
}
