//! What the names and shapes of tensors with our names tell of a model.

use serde_json::{Map, Value, json};

use super::TensorSource;

/// The keys of a `ModelConfig` that the tensors of `source` tell. Queries of several heads look like those of
/// one, so the number of heads is known only where something else tells the width of a head.
pub(super) fn known(source: &dyn TensorSource) -> Map<String, Value> {
    let shape = |name: &str| {
        let tensor = source.tensors().iter().find(|t| t.name == name)?;
        Some(tensor.shape.clone())
    };
    let has = |name: &str| shape(name).is_some();
    let mut known = Map::new();
    let mut note = |key: &str, value: Value| {
        known.insert(key.to_owned(), value);
    };
    if let Some([vocab_size, d_model]) = shape("token_embeddings.weight").as_deref() {
        note("vocab_size", json!(vocab_size));
        note("d_model", json!(d_model));
    }
    let number = |name: &String| {
        name.strip_prefix("layers.")?
            .split_once('.')?
            .0
            .parse()
            .ok()
    };
    let numbers = source.tensors().iter().filter_map(|t| number(&t.name));
    if let Some(last) = numbers.max() {
        let last: usize = last;
        note("num_layers", json!(last.saturating_add(1)));
    }
    if let Some([d_ff, _]) = shape("layers.0.ffn.w1.weight").as_deref() {
        note("d_ff", json!(d_ff));
    }
    note("tie_embeddings", json!(!has("lm_head.weight")));
    if let Some([context_length, _]) = shape("position_embeddings.weight").as_deref() {
        note("context_length", json!(context_length));
        note("positions", json!("learned"));
    }
    if has("layers.0.ln1.bias") {
        note("norm", json!("layer"));
    }
    if !has("layers.0.ffn.w3.weight") {
        note("activation", json!("gelu"));
    }
    note("biases", json!(has("layers.0.attn.q_proj.bias")));
    note("qk_norm", json!(has("layers.0.attn.q_norm.weight")));
    if let Some([head_dim]) = shape("layers.0.attn.q_norm.weight").as_deref() {
        note("head_dim", json!(head_dim));
    }
    known
}

/// Adds to `known` what the shapes of projections tell as soon as the number of heads or their width is known.
pub(super) fn add_heads(known: &mut Map<String, Value>, source: &dyn TensorSource) {
    let rows = |name: &str| {
        let tensor = source.tensors().iter().find(|t| t.name == name)?;
        tensor.shape.first().copied()
    };
    let number = |known: &Map<String, Value>, key: &str| {
        let value = known.get(key)?.as_u64()?;
        usize::try_from(value).ok().filter(|value| *value > 0)
    };
    let (Some(query_rows), Some(key_rows)) = (
        rows("layers.0.attn.q_proj.weight"),
        rows("layers.0.attn.k_proj.weight"),
    ) else {
        return;
    };
    let heads = number(known, "num_heads");
    let head_dim = match (number(known, "head_dim"), heads) {
        (None, Some(heads)) => query_rows / heads,
        (Some(head_dim), _) => head_dim,
        (None, None) => return,
    };
    if head_dim == 0 {
        return;
    }
    let mut note = |key: &str, value: usize| {
        known.entry(key).or_insert(value.into());
    };
    note("num_heads", query_rows / head_dim);
    note("num_kv_heads", key_rows / head_dim);
    let (heads, d_model) = (number(known, "num_heads"), number(known, "d_model"));
    if heads.map(|heads| heads * head_dim) != d_model {
        known.entry("head_dim").or_insert(head_dim.into());
    }
}
