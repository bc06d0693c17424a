// Four neighbouring elements of a head in a row of queries, keys and values.
// head_dim is even: where it is no multiple of four, a quad may begin in the middle of a word of
// four, and of the last one only two elements are the head's.
// Joined with operand_words.wgsl or operand_halves.wgsl.
override QUADS: u32 = (HEAD_DIM + 3u) / 4u;

// `head_first`: the column where the head begins.
fn head_quad(row: u32, head_first: u32, quad: u32) -> vec4<f32> {
    let at = row * params.row_stride + head_first + quad * 4u;
    let elements = widened(qkv[at / 4u]);
    if (HEAD_DIM % 4u == 0u || at % 4u == 0u) {
        return elements;
    }
    if (quad * 4u + 4u <= HEAD_DIM) {
        return vec4(elements.zw, widened(qkv[at / 4u + 1u]).xy);
    }
    return vec4(elements.zw, 0.0, 0.0);
}
