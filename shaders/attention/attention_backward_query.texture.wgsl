// Gradient of causal attention for the queries: a lane one query row or two, probabilities recomputed
// from the log-sum-exp: delta = d_output . output, d_score = p * (d_output . value - delta),
// d_query = scale * d_score . key. Keeps delta for the keys' and values' gradients.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load.
// Joined with attention_d_output_quad.texture.wgsl, attention_first_key.wgsl, attention_quads.texture.wgsl.
// Joined with attention_turned_back.wgsl.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    row_stride: u32,   // elements from one row of queries, keys and values, and of their gradients, to the next
    key_first: u32,    // where keys begin in such a row, behind the queries
    value_first: u32,  // and where values do
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;    // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var d_output: texture_storage_2d<rgba32float, read>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read> output: array<vec4<f32>>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(4) var<storage, read> log_sum_exp: array<f32>;        // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;       // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<vec4<f32>>;  // lies as qkv does
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;        // [batch, num_heads, time]
@group(0) @binding(8) var<storage, read> document_first: array<u32>;       // [batch * time], read if DOCUMENTS

override WORKGROUP_SIZE: u32 = 64u;
// Two rows a lane, which share the texels they read. Of larger heads they would take more registers
// than drivers spill in reasonable time: llvmpipe compiles two rows of 80 elements for 14 s.
override PAIRS: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (PAIRS) {
        attend_backward_query_pair(group, lane);
    } else {
        attend_backward_query(group, lane);
    }
}

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
    let first = (row * params.num_heads + head) * QUADS;
    var row_delta = 0.0;
    var q: array<vec4<f32>, 32>;
    var d_out: array<vec4<f32>, 32>;
    var sum: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(row, head, d) * params.scale;
        d_out[d] = d_output_quad(row, head, d);
        row_delta += dot(d_out[d], output[first + d]);
        sum[d] = vec4(0.0);
    }
    for (var k = first_key_of(group.z, position); k <= position; k++) {
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
    let d_first = row * params.row_stride / 4u + head * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_qkv[d_first + d] = turned_back(sum[d], (position * QUADS + d) * 4u, true);
    }
    delta[statistics] = row_delta;
}

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
    let first = ((first_row + position) * params.num_heads + head) * QUADS;
    let second = ((first_row + next) * params.num_heads + head) * QUADS;
    var row_delta = vec2(0.0);
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
        row_delta += vec2(dot(d_out0[d], output[first + d]), dot(d_out1[d], output[second + d]));
        sum0[d] = vec4(0.0);
        sum1[d] = vec4(0.0);
    }
    let next_first_key = first_key_of(group.z, next);
    for (var k = first_key_of(group.z, position); k <= next; k++) {
        var keys: array<vec4<f32>, 32>;
        var score = vec2(0.0);
        var d_probability = vec2(0.0);
        for (var d = 0u; d < QUADS; d++) {
            keys[d] = key_quad(first_row + k, kv_head, d);
            let value = value_quad(first_row + k, kv_head, d);
            score += vec2(dot(q0[d], keys[d]), dot(q1[d], keys[d]));
            d_probability += vec2(dot(d_out0[d], value), dot(d_out1[d], value));
        }
        // The first row does not see the second one's key, nor that one what is before its document.
        let is_unseen = vec2(k > position, k < next_first_key);
        let p = select(exp(score - row_log_sum_exp), vec2(0.0), is_unseen);
        let d_score = p * (d_probability - row_delta) * params.scale;
        for (var d = 0u; d < QUADS; d++) {
            sum0[d] += d_score.x * keys[d];
            sum1[d] += d_score.y * keys[d];
        }
    }
    let d_first = (first_row + position) * params.row_stride / 4u + head * QUADS;
    let d_second = (first_row + next) * params.row_stride / 4u + head * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_qkv[d_first + d] = turned_back(sum0[d], (position * QUADS + d) * 4u, true);
        d_qkv[d_second + d] = turned_back(sum1[d], (next * QUADS + d) * 4u, true);
    }
    delta[statistics + position] = row_delta.x;
    delta[statistics + next] = row_delta.y;
}
