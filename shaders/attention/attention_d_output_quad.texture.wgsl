// Four neighbouring elements of the gradient of a head, which are one texel.
// Joined with attention_quads.texture.wgsl.
fn d_output_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    return textureLoad(d_output, vec2(head * QUADS + quad, row));
}
