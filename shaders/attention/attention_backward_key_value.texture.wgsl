// Gradient of causal attention for keys and values: a lane one key row or two, over all queries that see
// it and all heads that share it, probabilities recomputed from the log-sum-exp:
// d_value = p . d_output, d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load.
// Joined with attention_d_output_quad.texture.wgsl, attention_end_query.wgsl, attention_quads.texture.wgsl.
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
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;        // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> delta: array<f32>;              // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;       // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<vec4<f32>>;  // lies as qkv does
@group(0) @binding(7) var<storage, read> document_end: array<u32>;         // [batch * time], read if DOCUMENTS

override WORKGROUP_SIZE: u32 = 64u;
// Two rows a lane, which share the texels they read. Of larger heads they would take more registers
// than drivers spill in reasonable time: llvmpipe compiles two rows of 80 elements for 14 s.
override PAIRS: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (PAIRS) {
        attend_backward_key_value_pair(group, lane);
    } else {
        attend_backward_key_value(group, lane);
    }
}

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
    let end_query = end_query_of(group.z, position);
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        for (var i = position; i < end_query; i++) {
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
    let first = row * params.row_stride / 4u + kv_head * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_qkv[first + params.key_first / 4u + d] = turned_back(sum_key[d], (position * QUADS + d) * 4u, true);
        d_qkv[first + params.value_first / 4u + d] = sum_value[d];
    }
}

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
    let end_query = end_query_of(group.z, position);
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        for (var i = position; i < end_query_of(group.z, next); i++) {
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
            // The first query does not see the second key, nor what is behind its document the first.
            let seen = exp(score - log_sum_exp[statistics]);
            let p = select(seen, vec2(0.0), vec2(i >= end_query, i < next));
            let d_score = p * (d_probability - delta[statistics]) * params.scale;
            for (var d = 0u; d < QUADS; d++) {
                sum_key0[d] += d_score.x * queries[d];
                sum_key1[d] += d_score.y * queries[d];
                sum_value0[d] += p.x * d_outputs[d];
                sum_value1[d] += p.y * d_outputs[d];
            }
        }
    }
    let first = (first_row + position) * params.row_stride / 4u + kv_head * QUADS;
    let second = (first_row + next) * params.row_stride / 4u + kv_head * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        d_qkv[first + params.key_first / 4u + d] = turned_back(sum_key0[d], (position * QUADS + d) * 4u, true);
        d_qkv[second + params.key_first / 4u + d] = turned_back(sum_key1[d], (next * QUADS + d) * 4u, true);
        d_qkv[first + params.value_first / 4u + d] = sum_value0[d];
        d_qkv[second + params.value_first / 4u + d] = sum_value1[d];
    }
}
