//! Attention of the newest position of a sequence over what a cache of keys and values holds.

use super::assert_len;
use super::attention::{self, AttentionShape};
use super::exact_parts;

/// The sizes of a cache: keys and values are `[slots, num_kv_heads, 2, capacity, padded head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Positions of a slot.
    pub capacity: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// Elements of a head in the cache, with zeros behind its own.
    pub fn padded(self) -> usize {
        self.head_dim.next_multiple_of(4)
    }

    /// Where a key (`which` 0) or a value (1) of a head begins.
    fn at(self, slot: usize, which: usize, kv_head: usize, index: usize) -> usize {
        let row = ((slot * self.num_kv_heads + kv_head) * 2 + which) * self.capacity + index;
        row * self.padded()
    }
}

/// A row's query, key and value heads, each `[heads, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// `[num_heads * head_dim]`.
    pub query: &'a [f64],
    /// `[num_kv_heads * head_dim]`.
    pub key: &'a [f64],
    /// `[num_kv_heads * head_dim]`.
    pub value: &'a [f64],
}

/// Keeps a row's key and value at `position` of a slot, or in place of the oldest where all are taken.
///
/// # Panics
/// Where a slice does not fit `shape`.
pub fn keep(cache: &mut [f64], slot: usize, position: usize, row: Row<'_>, shape: CacheShape) {
    for (which, heads) in [row.key, row.value].into_iter().enumerate() {
        assert_len("heads", heads, shape.num_kv_heads * shape.head_dim);
        for (kv_head, head) in heads.chunks(shape.head_dim).enumerate() {
            let first = shape.at(slot, which, kv_head, position % shape.capacity);
            cache[first..first + shape.padded()].fill(0.0);
            cache[first..first + shape.head_dim].copy_from_slice(head);
        }
    }
}

/// [`keep`], and the row's attention over all that the slot then holds, `[num_heads * head_dim]`.
///
/// # Panics
/// Where a slice does not fit `shape`, or the heads do not divide into groups.
pub fn attend(
    cache: &mut [f64],
    slot: usize,
    position: usize,
    row: Row<'_>,
    shape: CacheShape,
) -> Vec<f64> {
    exact_parts("the query heads", shape.num_heads, shape.num_kv_heads);
    keep(cache, slot, position, row, shape);
    let taken = shape.capacity.min(position + 1);
    // The row sees all of them, so their order does not matter: its own comes last.
    let own = position % shape.capacity;
    let order: Vec<usize> = (0..taken).filter(|&i| i != own).chain([own]).collect();
    let [keys, values] = [0, 1].map(|which| -> Vec<f64> {
        let mut all = Vec::new();
        for &index in &order {
            for kv_head in 0..shape.num_kv_heads {
                let first = shape.at(slot, which, kv_head, index);
                all.extend(&cache[first..first + shape.head_dim]);
            }
        }
        all
    });
    let mut queries = vec![0.0; (taken - 1) * row.query.len()];
    queries.extend(row.query);
    let all = AttentionShape {
        batch: 1,
        time: taken,
        num_heads: shape.num_heads,
        num_kv_heads: shape.num_kv_heads,
        head_dim: shape.head_dim,
    };
    let (attended, _) = attention::forward(&queries, &keys, &values, all);
    attended[(taken - 1) * row.query.len()..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot of two positions sees the newest two of three, which have equal scores.
    #[test]
    fn a_full_slot_forgets_its_oldest_position() {
        let shape = CacheShape {
            capacity: 2,
            num_heads: 1,
            num_kv_heads: 1,
            head_dim: 2,
        };
        let mut cache = vec![9.0; 16];
        let mut of = |position: usize, value: [f64; 2]| {
            let row = Row {
                query: &[1.0, 0.0],
                key: &[0.0, 5.0],
                value: &value,
            };
            attend(&mut cache, 0, position, row, shape)
        };
        assert_eq!(of(0, [8.0, 0.0]), [8.0, 0.0]);
        assert_eq!(of(1, [4.0, 2.0]), [6.0, 1.0]);
        assert_eq!(of(2, [2.0, 4.0]), [3.0, 3.0]);
    }
}
