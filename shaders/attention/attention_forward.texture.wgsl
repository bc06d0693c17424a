// Causal attention with an online softmax (Dao et al. 2022): a lane one query row or two, keys in
// blocks of four, and the log-sum-exp of each row kept for the backward pass.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load.
// Joined with attention_first_key.wgsl, attention_quads.texture.wgsl, most_negative.wgsl.
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
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;     // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read_write> log_sum_exp: array<f32>;   // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> document_first: array<u32>;        // [batch * time], read if DOCUMENTS

override WORKGROUP_SIZE: u32 = 64u;
// Two rows a lane, which share the texels they read. Of larger heads they would take more registers
// than drivers spill in reasonable time: llvmpipe compiles two rows of 80 elements for 14 s.
override PAIRS: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (PAIRS) {
        attend_pair(group, lane);
    } else {
        attend(group, lane);
    }
}

// Attends from one query row with an online softmax.
fn attend(group: vec3<u32>, lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let row = first_row + position;
    var q: array<vec4<f32>, 32>;
    var sum_value: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(row, head, d) * params.scale;
        sum_value[d] = vec4(0.0);
    }
    var largest = MOST_NEGATIVE;
    var sum = 0.0;
    let first_key = first_key_of(group.z, position);
    for (var key0 = first_key; key0 <= position; key0 += 4u) {
        // Keys past the position are read as the last one and masked.
        let keys = vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u);
        let rows = vec4(first_row) + min(keys, vec4(position));
        var s = vec4(0.0);
        for (var d = 0u; d < QUADS; d++) {
            s += vec4(
                dot(q[d], key_quad(rows.x, kv_head, d)),
                dot(q[d], key_quad(rows.y, kv_head, d)),
                dot(q[d], key_quad(rows.z, kv_head, d)),
                dot(q[d], key_quad(rows.w, kv_head, d)),
            );
        }
        let masked = keys > vec4(position);
        s = select(s, vec4(MOST_NEGATIVE), masked);
        let new_largest = max(largest, max(max(s.x, s.y), max(s.z, s.w)));
        let shrink = exp(largest - new_largest);
        let p = select(exp(s - new_largest), vec4(0.0), masked);
        sum = sum * shrink + (p.x + p.y + p.z + p.w);
        for (var d = 0u; d < QUADS; d++) {
            sum_value[d] = sum_value[d] * shrink
                + p.x * value_quad(rows.x, kv_head, d)
                + p.y * value_quad(rows.y, kv_head, d)
                + p.z * value_quad(rows.z, kv_head, d)
                + p.w * value_quad(rows.w, kv_head, d);
        }
        largest = new_largest;
    }
    let first = (row * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        output[first + d] = sum_value[d] / sum;
    }
    log_sum_exp[(group.z * params.num_heads + head) * params.time + position] = largest + log(sum);
}

// Attends from two neighbouring query rows with an online softmax: a texel of a key or a value costs
// as much as a dozen multiply-adds, and serves both.
fn attend_pair(group: vec3<u32>, lane: u32) {
    let position = (group.x * WORKGROUP_SIZE + lane) * 2u;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    // Of an odd time, the last row is computed twice.
    let next = min(position + 1u, params.time - 1u);
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    var q0: array<vec4<f32>, 32>;
    var q1: array<vec4<f32>, 32>;
    var sums0: array<vec4<f32>, 32>;
    var sums1: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q0[d] = query_quad(first_row + position, head, d) * params.scale;
        q1[d] = query_quad(first_row + next, head, d) * params.scale;
        sums0[d] = vec4(0.0);
        sums1[d] = vec4(0.0);
    }
    var largest = vec2(MOST_NEGATIVE);
    var sum = vec2(0.0);
    let first_key = first_key_of(group.z, position);
    let next_first_key = first_key_of(group.z, next);
    for (var key0 = first_key; key0 <= next; key0 += 4u) {
        // Keys past the second row's position are read as that and masked.
        let keys = vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u);
        let rows = vec4(first_row) + min(keys, vec4(next));
        var s0 = vec4(0.0);
        var s1 = vec4(0.0);
        for (var d = 0u; d < QUADS; d++) {
            let k = mat4x4(
                key_quad(rows.x, kv_head, d),
                key_quad(rows.y, kv_head, d),
                key_quad(rows.z, kv_head, d),
                key_quad(rows.w, kv_head, d),
            );
            // The products of a row vector with each column.
            s0 += q0[d] * k;
            s1 += q1[d] * k;
        }
        let masked0 = keys > vec4(position);
        let masked1 = (keys > vec4(next)) | (keys < vec4(next_first_key));
        s0 = select(s0, vec4(MOST_NEGATIVE), masked0);
        s1 = select(s1, vec4(MOST_NEGATIVE), masked1);
        let highest = vec2(max(max(s0.x, s0.y), max(s0.z, s0.w)), max(max(s1.x, s1.y), max(s1.z, s1.w)));
        let new_largest = max(largest, highest);
        let shrink = exp(largest - new_largest);
        let p0 = select(exp(s0 - new_largest.x), vec4(0.0), masked0);
        let p1 = select(exp(s1 - new_largest.y), vec4(0.0), masked1);
        sum = sum * shrink + vec2(p0.x + p0.y + p0.z + p0.w, p1.x + p1.y + p1.z + p1.w);
        for (var d = 0u; d < QUADS; d++) {
            let v = mat4x4(
                value_quad(rows.x, kv_head, d),
                value_quad(rows.y, kv_head, d),
                value_quad(rows.z, kv_head, d),
                value_quad(rows.w, kv_head, d),
            );
            sums0[d] = sums0[d] * shrink.x + v * p0;
            sums1[d] = sums1[d] * shrink.y + v * p1;
        }
        largest = new_largest;
    }
    let first = ((first_row + position) * params.num_heads + head) * QUADS;
    let second = ((first_row + next) * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        output[first + d] = sums0[d] / sum.x;
        output[second + d] = sums1[d] / sum.y;
    }
    let statistics = (group.z * params.num_heads + head) * params.time;
    log_sum_exp[statistics + position] = largest.x + log(sum.x);
    log_sum_exp[statistics + next] = largest.y + log(sum.y);
}
