//! Rows of the weights of one head: heads of every width, groups, and more keys than lanes.

use super::Table;
use crate::check::Case;
use crate::gpu::Elements;
use crate::kernels::attention::Qkv;
use crate::kernels::attention_weights::{self as kernel, Head};
use crate::reference::attention_weights as reference;

/// `(rows, heads, key and value heads, elements of a head, the head)`.
const SHAPES: [(usize, usize, usize, usize, usize); 4] = [
    (1, 1, 1, 32, 0),
    (7, 4, 2, 6, 3),
    (65, 2, 2, 32, 1),
    (130, 3, 1, 6, 2),
];

pub(super) fn rows(table: &mut Table) {
    for (rows, num_heads, num_kv_heads, head_dim, head) in SHAPES {
        let label = format!("{rows} rows, head {head} of {num_heads}/{num_kv_heads}x{head_dim}");
        for (elements, kernel) in [
            (Elements::Words, &kernel::WEIGHTS),
            (Elements::Halves, &kernel::WEIGHTS_F16),
        ] {
            table.add_once(kernel, label.clone(), move |case| {
                let sizes = (num_heads, num_kv_heads, head_dim);
                build(case, elements, rows, sizes, head);
            });
        }
    }
}

fn build(
    case: &mut Case,
    elements: Elements,
    rows: usize,
    (num_heads, num_kv_heads, head_dim): (usize, usize, usize),
    head: usize,
) {
    let of = |heads: usize| (heads * head_dim).next_multiple_of(8);
    let (key_first, kv_cols) = (of(num_heads), of(num_kv_heads));
    let value_first = key_first + kv_cols;
    let cols = value_first + kv_cols;
    let data = case.random_of(elements, rows, cols, 1.0);
    let qkv = Qkv {
        tensor: data.tensor,
        key_first,
        value_first,
    };
    let group = num_heads / num_kv_heads;
    let output = case.plan.scratch("weights", rows, rows);
    let looked_at = Head {
        number: head,
        group,
        head_dim,
    };
    kernel::weights(&mut case.plan, qkv, looked_at, output);
    let columns = |first: usize| -> Vec<f64> {
        let rows = data.values.chunks(cols);
        rows.flat_map(|row| row[first..first + head_dim].to_vec())
            .collect()
    };
    let queries = columns(head * head_dim);
    let keys = columns(key_first + head / group * head_dim);
    case.expect(
        "weights",
        output,
        reference::weights(&queries, &keys, head_dim),
    );
}
