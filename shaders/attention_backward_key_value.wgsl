// Gradient of causal attention for keys and values: one lane a key row, over all queries that see
// it and all heads that share it, probabilities recomputed from the log-sum-exp:
// d_value = p . d_output, d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>;          // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var<storage, read> key: array<f32>;            // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read> value: array<f32>;          // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read> d_output: array<f32>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read> log_sum_exp: array<f32>;    // [batch, num_heads, time]
@group(0) @binding(6) var<storage, read> delta: array<f32>;          // [batch, num_heads, time]
@group(0) @binding(7) var<storage, read_write> d_key: array<f32>;    // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(8) var<storage, read_write> d_value: array<f32>;  // [batch * time, num_kv_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let kv_head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let heads_per_group = params.num_heads / params.num_kv_heads;
    let kv_row = ((first_row + position) * params.num_kv_heads + kv_head) * HEAD_DIM;
    var k: array<vec4<f32>, 32>;
    var v: array<vec4<f32>, 32>;
    var sum_key: array<vec4<f32>, 32>;
    var sum_value: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        k[d] = key_quad(kv_row, d) * params.scale;
        v[d] = value_quad(kv_row, d);
        sum_key[d] = vec4(0.0);
        sum_value[d] = vec4(0.0);
    }
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        for (var i = position; i < params.time; i++) {
            let query_row = ((first_row + i) * params.num_heads + head) * HEAD_DIM;
            let statistics = (group.z * params.num_heads + head) * params.time + i;
            var score = 0.0;
            var d_probability = 0.0;
            for (var d = 0u; d < QUADS; d++) {
                score += dot(k[d], query_quad(query_row, d));
                d_probability += dot(v[d], d_output_quad(query_row, d));
            }
            let p = exp(score - log_sum_exp[statistics]);
            let d_score = p * (d_probability - delta[statistics]) * params.scale;
            for (var d = 0u; d < QUADS; d++) {
                sum_key[d] += d_score * query_quad(query_row, d);
                sum_value[d] += p * d_output_quad(query_row, d);
            }
        }
    }
    for (var d = 0u; d < QUADS; d++) {
        for (var i = 0u; i < 4u && d * 4u + i < HEAD_DIM; i++) {
            d_key[kv_row + d * 4u + i] = sum_key[d][i];
            d_value[kv_row + d * 4u + i] = sum_value[d][i];
        }
    }
}
