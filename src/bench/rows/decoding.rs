//! Rows of the kernels that only decoding has.

use super::Table;
use super::matmul::product_of;
use crate::check::Case;
use crate::gpu::Elements;
use crate::gpu::dispatch::word;
use crate::kernels::attention::Qkv;
use crate::kernels::attention_cache::Variant::{Subgroup, Workgroup};
use crate::kernels::attention_cache::{self, Cache, CacheShape};
use crate::kernels::attention_weights::{self, Head};
use crate::kernels::matmul::{self, Form, Variant};

/// A token of eight sequences of model M over full windows, and a prompt of it.
pub(super) fn rows(table: &mut Table) {
    const WINDOW: usize = 256;
    let shape = CacheShape {
        slots: 8,
        capacity: WINDOW,
        num_heads: 16,
        num_kv_heads: 16,
        head_dim: 32,
    };
    let of = move |case: &mut Case, elements: Elements, rows: usize| {
        let cols = 3 * shape.num_heads * shape.head_dim;
        let qkv = Qkv {
            tensor: case.random_of(elements, rows, cols, 1.0).tensor,
            key_first: cols / 3,
            value_first: 2 * cols / 3,
        };
        let tensor = case
            .random_of(elements, 1, shape.slots * shape.slot_len(), 1.0)
            .tensor;
        let last = word(WINDOW - 1);
        let places: Vec<u32> = (0..8).flat_map(|slot| [slot, last]).collect();
        let places = case.words(&places);
        (
            qkv,
            Cache {
                tensor,
                shape,
                places,
            },
        )
    };
    for (kernel, variant) in [
        (&attention_cache::CACHED, Workgroup),
        (&attention_cache::CACHED_F16, Workgroup),
        (&attention_cache::CACHED_SUBGROUP, Subgroup),
        (&attention_cache::CACHED_SUBGROUP_F16, Subgroup),
    ] {
        let elements = kernel.bindings[0].elements.unwrap_or(Elements::Words);
        table.add(kernel, format!("8 of {WINDOW}, heads 16x32"), move |case| {
            let (qkv, cache) = of(case, elements, 8);
            attention_cache::attend_by(&mut case.plan, variant, qkv, cache);
        });
    }
    for kernel in [&attention_cache::FILL, &attention_cache::FILL_F16] {
        let elements = kernel.bindings[0].elements.unwrap_or(Elements::Words);
        table.add(kernel, format!("{WINDOW}, heads 16x32"), move |case| {
            let (qkv, cache) = of(case, elements, WINDOW);
            attention_cache::fill(&mut case.plan, qkv, cache);
        });
    }
    for kernel in [&attention_weights::WEIGHTS, &attention_weights::WEIGHTS_F16] {
        let elements = kernel.bindings[0].elements.unwrap_or(Elements::Words);
        table.add(kernel, format!("{WINDOW}, one head of 32"), move |case| {
            let (qkv, _) = of(case, elements, WINDOW);
            let output = case.plan.scratch("weights", WINDOW, WINDOW);
            let head = Head {
                number: 3,
                group: 1,
                head_dim: 32,
            };
            attention_weights::weights(&mut case.plan, qkv, head, output);
        });
    }
    // A row of halves, by the software adapters' variant.
    table.add(
        &matmul::ROW_TEXTURE_F16,
        "1x10000x512 Nt".to_owned(),
        |case| {
            let by = (Variant::FewTexture, Elements::Halves);
            product_of(case, by, Form::Nt, (1, 10_000, 512));
        },
    );
    if let Some(row) = table.rows.last_mut() {
        row.alone = false;
    }
}
