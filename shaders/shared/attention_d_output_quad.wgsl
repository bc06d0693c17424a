// Four neighbouring elements of the gradient of a head, as `query_quad` reads the query.
fn d_output_quad(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = (row * params.num_heads + head) * HEAD_DIM + quad * 4u;
    if (quad * 4u + 4u <= HEAD_DIM) {
        return vec4(d_output[at], d_output[at + 1u], d_output[at + 2u], d_output[at + 3u]);
    }
    return vec4(d_output[at], d_output[at + 1u], 0.0, 0.0);
}
