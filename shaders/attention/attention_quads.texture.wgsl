// Four neighbouring elements of a head of one row, which are one texel.
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = HEAD_DIM / 4u;

fn query_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    return textureLoad(qkv, vec2(head * QUADS + quad, row));
}

fn key_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    return textureLoad(qkv, vec2(params.key_first / 4u + head * QUADS + quad, row));
}

fn value_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    return textureLoad(qkv, vec2(params.value_first / 4u + head * QUADS + quad, row));
}
