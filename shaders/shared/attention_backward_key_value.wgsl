// The gradients of one key row and its value row.
fn attend_backward_key_value(group: vec3<u32>, lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let kv_head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let heads_per_group = params.num_heads / params.num_kv_heads;
    let row = first_row + position;
    var k: array<vec4<f32>, 32>;
    var v: array<vec4<f32>, 32>;
    var sum_key: array<vec4<f32>, 32>;
    var sum_value: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        k[d] = key_quad(row, kv_head, d) * params.scale;
        v[d] = value_quad(row, kv_head, d);
        sum_key[d] = vec4(0.0);
        sum_value[d] = vec4(0.0);
    }
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        for (var i = position; i < params.time; i++) {
            let statistics = (group.z * params.num_heads + head) * params.time + i;
            var score = 0.0;
            var d_probability = 0.0;
            for (var d = 0u; d < QUADS; d++) {
                score += dot(k[d], query_quad(first_row + i, head, d));
                d_probability += dot(v[d], d_output_quad(first_row + i, head, d));
            }
            let p = exp(score - log_sum_exp[statistics]);
            let d_score = p * (d_probability - delta[statistics]) * params.scale;
            for (var d = 0u; d < QUADS; d++) {
                sum_key[d] += d_score * query_quad(first_row + i, head, d);
                sum_value[d] += p * d_output_quad(first_row + i, head, d);
            }
        }
    }
    let first = (row * params.num_kv_heads + kv_head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_key[first + d] = sum_key[d];
        d_value[first + d] = sum_value[d];
    }
}
