// Four neighbouring elements of a head at one position. Positions past the sequence's end give the
// last one's, which masks keep out of every sum, so that no load waits for a branch.
// Joined with attention_head_quad.wgsl, attention_tiles.wgsl.
fn query_quad(sequence: u32, position: u32, head: u32, quad: u32) -> vec4<f32> {
    return qkv_quad(sequence, position, head * HEAD_DIM, quad);
}

fn key_quad(sequence: u32, position: u32, head: u32, quad: u32) -> vec4<f32> {
    return qkv_quad(sequence, position, params.key_first + head * HEAD_DIM, quad);
}

fn value_quad(sequence: u32, position: u32, head: u32, quad: u32) -> vec4<f32> {
    return qkv_quad(sequence, position, params.value_first + head * HEAD_DIM, quad);
}

fn qkv_quad(sequence: u32, position: u32, head_first: u32, quad: u32) -> vec4<f32> {
    let row = sequence * params.time + min(position, params.time - 1u);
    return within_head(head_quad(row, head_first, min(quad, QUADS - 1u)), quad);
}

// Zeros in place of elements past the head's end, which a chunk's dot products run over.
fn within_head(elements: vec4<f32>, quad: u32) -> vec4<f32> {
    if (HEAD_DIM % (4u * CHUNK) == 0u) {
        return elements;
    }
    let places = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
    return select(vec4(0.0), elements, places < vec4(HEAD_DIM));
}
