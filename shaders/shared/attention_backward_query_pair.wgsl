// The gradients of two neighbouring query rows: a texel of a key or a value costs as much as a dozen
// multiply-adds, and serves both.
fn attend_backward_query_pair(group: vec3<u32>, lane: u32) {
    let position = (group.x * WORKGROUP_SIZE + lane) * 2u;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    // Of an odd time, the last row is computed twice.
    let next = min(position + 1u, params.time - 1u);
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let statistics = (group.z * params.num_heads + head) * params.time;
    let row_log_sum_exp = vec2(log_sum_exp[statistics + position], log_sum_exp[statistics + next]);
    let row_delta = vec2(delta[statistics + position], delta[statistics + next]);
    var q0: array<vec4<f32>, 32>;
    var q1: array<vec4<f32>, 32>;
    var d_out0: array<vec4<f32>, 32>;
    var d_out1: array<vec4<f32>, 32>;
    var sum0: array<vec4<f32>, 32>;
    var sum1: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q0[d] = query_quad(first_row + position, head, d) * params.scale;
        q1[d] = query_quad(first_row + next, head, d) * params.scale;
        d_out0[d] = d_output_quad(first_row + position, head, d);
        d_out1[d] = d_output_quad(first_row + next, head, d);
        sum0[d] = vec4(0.0);
        sum1[d] = vec4(0.0);
    }
    for (var k = 0u; k <= next; k++) {
        var keys: array<vec4<f32>, 32>;
        var score = vec2(0.0);
        var d_probability = vec2(0.0);
        for (var d = 0u; d < QUADS; d++) {
            keys[d] = key_quad(first_row + k, kv_head, d);
            let value = value_quad(first_row + k, kv_head, d);
            score += vec2(dot(q0[d], keys[d]), dot(q1[d], keys[d]));
            d_probability += vec2(dot(d_out0[d], value), dot(d_out1[d], value));
        }
        // The first row does not see the second one's key.
        let p = select(exp(score - row_log_sum_exp), vec2(0.0), vec2(k) > vec2(position, next));
        let d_score = p * (d_probability - row_delta) * params.scale;
        for (var d = 0u; d < QUADS; d++) {
            sum0[d] += d_score.x * keys[d];
            sum1[d] += d_score.y * keys[d];
        }
    }
    let first = ((first_row + position) * params.num_heads + head) * QUADS;
    let second = ((first_row + next) * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_query[first + d] = sum0[d];
        d_query[second + d] = sum1[d];
    }
}
