//! Rows of the normalisation of heads.

use super::{Table, added, side_by_side};
use crate::check::{Case, Data};
use crate::kernels::attention::Qkv;
use crate::kernels::head_norm::{self, Gains, Gradients, HeadNormShape, Saved};
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, by_width};
use crate::reference::head_norm as reference;

const EPS: f64 = 1e-6;

/// What a row has, and how large it is.
#[derive(Clone, Copy)]
struct Heads {
    rows: usize,
    shape: HeadNormShape,
    /// Columns between queries and keys, between keys and values, and behind these.
    gap: usize,
    scale: f64,
}

impl Heads {
    fn query_cols(self) -> usize {
        self.shape.num_heads * self.shape.head_dim
    }

    fn kv_cols(self) -> usize {
        self.shape.num_kv_heads * self.shape.head_dim
    }

    /// Queries, keys and values side by side, with `between` in the gaps between them, and behind each row where
    /// it has a `last` one.
    fn upload(
        self,
        case: &mut Case,
        [query, key, value]: [&[f64]; 3],
        between: &[f64],
        last: bool,
    ) -> Qkv {
        let (key_first, kv_cols) = (self.query_cols() + self.gap, self.kv_cols());
        let value_first = key_first + kv_cols + self.gap;
        let cols = value_first + kv_cols;
        let (last, behind) = if last {
            (self.gap, between)
        } else {
            (0, &[][..])
        };
        let parts = [query, between, key, between, value, behind];
        let values = side_by_side(self.rows, &parts);
        let tensor = case.floats(self.rows, cols + last, values).tensor;
        Qkv {
            tensor: tensor.columns(0, cols),
            key_first,
            value_first,
        }
    }

    fn draw(self, case: &mut Case, scale: f64) -> [Vec<f64>; 3] {
        let cols = [self.query_cols(), self.kv_cols(), self.kv_cols()];
        cols.map(|cols| case.random(self.rows, cols, scale).values)
    }
}

/// `(rows, heads, key and value heads, elements of a head)`: fewer and more heads than a workgroup takes, and elements
/// than a head's lanes; around 32 rows, which one lane adds up.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 2),
    (3, 4, 2, 6),
    (31, 2, 2, 16),
    (33, 3, 1, 10),
    (5, 9, 3, 64),
    (7, 5, 5, 36),
    (65, 2, 1, 80),
    (2, 16, 8, 128),
    (3, 2, 1, 256),
];

pub(super) fn rows(table: &mut Table) {
    for (rows, num_heads, num_kv_heads, head_dim) in SHAPES {
        // Tiny values make the epsilon count.
        for (gap, scale) in [(0, 1.0), (4, 1e-3), (3, 1e3)] {
            let heads = Heads {
                rows,
                shape: HeadNormShape {
                    num_heads,
                    num_kv_heads,
                    head_dim,
                },
                gap,
                scale,
            };
            let shape = format!(
                "{rows} rows, heads {num_heads}/{num_kv_heads}x{head_dim}, gaps of {gap}, scale {scale}"
            );
            add(table, &shape, heads, None);
        }
    }
    // Several bindings, the last of them ragged.
    const LIMIT_WORDS: usize = 1 << 12;
    let heads = Heads {
        rows: 130,
        shape: HeadNormShape {
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: 8,
        },
        gap: 4,
        scale: 1.0,
    };
    let shape = format!("130 rows, heads 2/1x8 in bindings of {LIMIT_WORDS} words");
    add(table, &shape, heads, Some(LIMIT_WORDS));
}

/// A row for each kernel.
fn add(table: &mut Table, shape: &str, heads: Heads, limit_words: Option<usize>) {
    let columns = heads.shape.head_dim | heads.gap;
    let limit = move |case: &mut Case| {
        if let Some(words) = limit_words {
            case.plan.set_max_binding_words(words);
        }
    };
    let kernel = by_width(columns, &head_norm::FORWARD, &head_norm::FORWARD_QUADS).0;
    table.add(kernel, shape, move |case| {
        limit(case);
        forward(case, heads);
    });
    let input = by_width(
        columns,
        &head_norm::BACKWARD_INPUT,
        &head_norm::BACKWARD_INPUT_QUADS,
    );
    let weight = by_width(
        columns,
        &head_norm::BACKWARD_WEIGHT,
        &head_norm::BACKWARD_WEIGHT_QUADS,
    );
    for accumulate in [false, true] {
        for kernel in [input.0, weight.0] {
            let shape = format!("{shape}, accumulate {accumulate}");
            table.add(kernel, shape, move |case| {
                limit(case);
                backward(case, heads, accumulate);
            });
        }
    }
}

fn draw_gains(case: &mut Case, heads: Heads) -> [Data; 2] {
    [(); 2].map(|()| case.random(1, heads.shape.head_dim, 1.0))
}

fn forward(case: &mut Case, heads: Heads) {
    let [query, key, value] = heads.draw(case, heads.scale);
    let [query_gain, key_gain] = draw_gains(case, heads);
    let nothing = vec![f64::NAN; heads.rows * heads.gap];
    let projected = heads.upload(case, [&query, &key, &value], &nothing, true);
    let gains = Gains {
        query: query_gain.tensor,
        key: key_gain.tensor,
    };
    let (normed, saved) = head_norm::forward(&mut case.plan, projected, heads.shape, gains, 1e-6);
    let want_query = reference::forward(&query, &query_gain.values, EPS);
    let want_key = reference::forward(&key, &key_gain.values, EPS);
    let columns = |first: usize, cols: usize| normed.tensor.columns(first, cols);
    case.expect("queries", columns(0, heads.query_cols()), want_query.0);
    case.expect(
        "keys",
        columns(normed.key_first, heads.kv_cols()),
        want_key.0,
    );
    case.expect_exactly(
        "values",
        columns(normed.value_first, heads.kv_cols()),
        &value,
    );
    let inv_rms = side_by_side(heads.rows, &[&want_query.1, &want_key.1]);
    case.expect("inv_rms", saved.inv_rms, inv_rms);
}

fn backward(case: &mut Case, heads: Heads, accumulate: bool) {
    let [query, key, value] = heads.draw(case, heads.scale);
    let [d_query, d_key, d_value] = heads.draw(case, 1.0);
    let [query_gain, key_gain] = draw_gains(case, heads);
    let [d_query_gain, d_key_gain] = draw_gains(case, heads);
    let inv_query = reference::forward(&query, &query_gain.values, EPS).1;
    let inv_key = reference::forward(&key, &key_gain.values, EPS).1;
    let heads_of_row = heads.shape.num_heads + heads.shape.num_kv_heads;
    let inv_rms = side_by_side(heads.rows, &[&inv_query, &inv_key]);
    let inv_rms = case.floats(heads.rows, heads_of_row, inv_rms).tensor;
    let nothing = vec![f64::NAN; heads.rows * heads.gap];
    let saved = Saved {
        projected: heads.upload(case, [&query, &key, &value], &nothing, true),
        inv_rms,
        shape: heads.shape,
    };
    // Gradients of values and what is in the gaps stay as they are.
    let between = case.random(heads.rows, heads.gap, 1.0).values;
    let d_normed = heads.upload(case, [&d_query, &d_key, &d_value], &between, false);
    let gains = Gains {
        query: query_gain.tensor,
        key: key_gain.tensor,
    };
    let into = |data: &Data| Gradient {
        tensor: data.tensor,
        accumulate,
    };
    let gradients = Gradients {
        d_normed: d_normed.tensor,
        d_query_gain: Some(into(&d_query_gain)),
        d_key_gain: Some(into(&d_key_gain)),
    };
    let mut sums = Sums::default();
    head_norm::backward(&mut case.plan, saved, gains, gradients, &mut sums);
    sums.flush(&mut case.plan);
    let mut query = reference::backward(&query, &query_gain.values, &inv_query, &d_query);
    let mut key = reference::backward(&key, &key_gain.values, &inv_key, &d_key);
    if accumulate {
        query.1 = added(&d_query_gain.values, query.1);
        key.1 = added(&d_key_gain.values, key.1);
    }
    case.expect("d_query_gain", d_query_gain.tensor, query.1);
    case.expect("d_key_gain", d_key_gain.tensor, key.1);
    let columns = |first: usize, cols: usize| d_normed.tensor.columns(first, cols);
    case.expect("d_query", columns(0, heads.query_cols()), query.0);
    case.expect("d_key", columns(d_normed.key_first, heads.kv_cols()), key.0);
    case.expect_exactly(
        "d_value",
        columns(d_normed.value_first, heads.kv_cols()),
        &d_value,
    );
    if heads.gap > 0 {
        let first = d_normed.key_first - heads.gap;
        case.expect_exactly("between", columns(first, heads.gap), &between);
    }
}
