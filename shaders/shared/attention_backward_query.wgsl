// The gradient of one query row.
fn attend_backward_query(group: vec3<u32>, lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let row = first_row + position;
    let statistics = (group.z * params.num_heads + head) * params.time + position;
    let row_log_sum_exp = log_sum_exp[statistics];
    let row_delta = delta[statistics];
    var q: array<vec4<f32>, 32>;
    var d_out: array<vec4<f32>, 32>;
    var sum: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(row, head, d) * params.scale;
        d_out[d] = d_output_quad(row, head, d);
        sum[d] = vec4(0.0);
    }
    for (var k = 0u; k <= position; k++) {
        var score = 0.0;
        var d_probability = 0.0;
        for (var d = 0u; d < QUADS; d++) {
            score += dot(q[d], key_quad(first_row + k, kv_head, d));
            d_probability += dot(d_out[d], value_quad(first_row + k, kv_head, d));
        }
        let d_score = exp(score - row_log_sum_exp) * (d_probability - row_delta) * params.scale;
        for (var d = 0u; d < QUADS; d++) {
            sum[d] += d_score * key_quad(first_row + k, kv_head, d);
        }
    }
    let first = (row * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_query[first + d] = sum[d];
    }
}
