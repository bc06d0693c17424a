// Four neighbouring elements of the gradient of a head, as `query_quad` reads the query.
// Joined with attention_head_quad.wgsl, attention_quads.wgsl.
// Joined with operand_words.wgsl or operand_halves.wgsl.
fn d_output_quad(sequence: u32, position: u32, head: u32, quad: u32) -> vec4<f32> {
    let row = sequence * params.time + min(position, params.time - 1u);
    let at = (row * params.num_heads + head) * HEAD_DIM + min(quad, QUADS - 1u) * 4u;
    var elements = widened(d_output[at / 4u]);
    if (HEAD_DIM % 4u != 0u && at % 4u != 0u) {
        elements = vec4(elements.zw, 0.0, 0.0);
        if (quad * 4u + 4u <= HEAD_DIM) {
            elements = vec4(elements.xy, widened(d_output[at / 4u + 1u]).xy);
        }
    }
    return within_head(elements, quad);
}
