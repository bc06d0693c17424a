// Four neighbouring elements of a head of one row; head_dim is even, so the last quad may hold two,
// and zeros that change no dot product.
fn query_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = (row * params.num_heads + head) * HEAD_DIM + quad * 4u;
    if (quad * 4u + 4u <= HEAD_DIM) {
        return vec4(query[at], query[at + 1u], query[at + 2u], query[at + 3u]);
    }
    return vec4(query[at], query[at + 1u], 0.0, 0.0);
}

fn key_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = (row * params.num_kv_heads + head) * HEAD_DIM + quad * 4u;
    if (quad * 4u + 4u <= HEAD_DIM) {
        return vec4(key[at], key[at + 1u], key[at + 2u], key[at + 3u]);
    }
    return vec4(key[at], key[at + 1u], 0.0, 0.0);
}

fn value_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = (row * params.num_kv_heads + head) * HEAD_DIM + quad * 4u;
    if (quad * 4u + 4u <= HEAD_DIM) {
        return vec4(value[at], value[at + 1u], value[at + 2u], value[at + 3u]);
    }
    return vec4(value[at], value[at + 1u], 0.0, 0.0);
}
