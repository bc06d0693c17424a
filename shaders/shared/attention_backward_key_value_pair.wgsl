// The gradients of two neighbouring key rows and their value rows: a texel of a query or of the
// output's gradient costs as much as a dozen multiply-adds, and serves both.
fn attend_backward_key_value_pair(group: vec3<u32>, lane: u32) {
    let position = (group.x * WORKGROUP_SIZE + lane) * 2u;
    let kv_head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    // Of an odd time, the last row is computed twice.
    let next = min(position + 1u, params.time - 1u);
    let heads_per_group = params.num_heads / params.num_kv_heads;
    var k0: array<vec4<f32>, 32>;
    var k1: array<vec4<f32>, 32>;
    var v0: array<vec4<f32>, 32>;
    var v1: array<vec4<f32>, 32>;
    var sum_key0: array<vec4<f32>, 32>;
    var sum_key1: array<vec4<f32>, 32>;
    var sum_value0: array<vec4<f32>, 32>;
    var sum_value1: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        k0[d] = key_quad(first_row + position, kv_head, d) * params.scale;
        k1[d] = key_quad(first_row + next, kv_head, d) * params.scale;
        v0[d] = value_quad(first_row + position, kv_head, d);
        v1[d] = value_quad(first_row + next, kv_head, d);
        sum_key0[d] = vec4(0.0);
        sum_key1[d] = vec4(0.0);
        sum_value0[d] = vec4(0.0);
        sum_value1[d] = vec4(0.0);
    }
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        for (var i = position; i < params.time; i++) {
            let statistics = (group.z * params.num_heads + head) * params.time + i;
            var queries: array<vec4<f32>, 32>;
            var d_outputs: array<vec4<f32>, 32>;
            var score = vec2(0.0);
            var d_probability = vec2(0.0);
            for (var d = 0u; d < QUADS; d++) {
                queries[d] = query_quad(first_row + i, head, d);
                d_outputs[d] = d_output_quad(first_row + i, head, d);
                score += vec2(dot(k0[d], queries[d]), dot(k1[d], queries[d]));
                d_probability += vec2(dot(v0[d], d_outputs[d]), dot(v1[d], d_outputs[d]));
            }
            // The first query does not see the second key.
            let seen = exp(score - log_sum_exp[statistics]);
            let p = select(seen, vec2(0.0), vec2(i) < vec2(position, next));
            let d_score = p * (d_probability - delta[statistics]) * params.scale;
            for (var d = 0u; d < QUADS; d++) {
                sum_key0[d] += d_score.x * queries[d];
                sum_key1[d] += d_score.y * queries[d];
                sum_value0[d] += p.x * d_outputs[d];
                sum_value1[d] += p.y * d_outputs[d];
            }
        }
    }
    let first = ((first_row + position) * params.num_kv_heads + kv_head) * QUADS;
    let second = ((first_row + next) * params.num_kv_heads + kv_head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_key[first + d] = sum_key0[d];
        d_key[second + d] = sum_key1[d];
        d_value[first + d] = sum_value0[d];
        d_value[second + d] = sum_value1[d];
    }
}
