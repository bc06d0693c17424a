// Gradient of causal attention for the queries: one lane a query row, probabilities recomputed
// from the log-sum-exp: d_score = p * (d_output . value - delta), d_query = scale * d_score . key.
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
@group(0) @binding(7) var<storage, read_write> d_query: array<f32>;  // [batch * time, num_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let kv_stride = params.num_kv_heads * HEAD_DIM;
    let kv_offset = head / (params.num_heads / params.num_kv_heads) * HEAD_DIM;
    let query_row = ((first_row + position) * params.num_heads + head) * HEAD_DIM;
    let statistics = (group.z * params.num_heads + head) * params.time + position;
    let row_log_sum_exp = log_sum_exp[statistics];
    let row_delta = delta[statistics];
    var q: array<vec4<f32>, 32>;
    var d_out: array<vec4<f32>, 32>;
    var sum: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(query_row, d) * params.scale;
        d_out[d] = d_output_quad(query_row, d);
        sum[d] = vec4(0.0);
    }
    for (var k = 0u; k <= position; k++) {
        let kv_row = (first_row + k) * kv_stride + kv_offset;
        var score = 0.0;
        var d_probability = 0.0;
        for (var d = 0u; d < QUADS; d++) {
            score += dot(q[d], key_quad(kv_row, d));
            d_probability += dot(d_out[d], value_quad(kv_row, d));
        }
        let d_score = exp(score - row_log_sum_exp) * (d_probability - row_delta) * params.scale;
        for (var d = 0u; d < QUADS; d++) {
            sum[d] += d_score * key_quad(kv_row, d);
        }
    }
    for (var d = 0u; d < QUADS; d++) {
        for (var i = 0u; i < 4u && d * 4u + i < HEAD_DIM; i++) {
            d_query[query_row + d * 4u + i] = sum[d][i];
        }
    }
}
