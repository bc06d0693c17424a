// Where keys and values of earlier positions lie: [slots, num_kv_heads, keys and values, capacity, QUADS], each
// head filled up to whole quads with zeros.
// Joined with attention_head_quad.wgsl, operand_words.wgsl or operand_halves.wgsl.

// The first quad of a slot's keys of a head; its values follow `params.capacity` rows later.
fn first_key(slot: u32, kv_head: u32) -> u32 {
    return (slot * params.num_kv_heads + kv_head) * 2u * params.capacity * QUADS;
}

// A quad of a head's key or value as the cache keeps it.
fn cached_quad(row: u32, head_first: u32, quad: u32) -> Quad {
    let elements = head_quad(row, head_first, quad);
    if (HEAD_DIM % 4u == 0u) {
        return quad_of(elements);
    }
    let places = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
    return quad_of(select(vec4(0.0), elements, places < vec4(HEAD_DIM)));
}
