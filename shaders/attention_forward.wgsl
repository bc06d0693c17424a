// Causal attention with an online softmax (Dao et al. 2022): one lane a query row, keys in blocks
// of four, and the log-sum-exp of each row kept for the backward pass.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>;              // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var<storage, read> key: array<f32>;                // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read> value: array<f32>;              // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read_write> output: array<f32>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read_write> log_sum_exp: array<f32>;  // [batch, num_heads, time]

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
    var q: array<vec4<f32>, 32>;
    var sum_value: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(query_row, d) * params.scale;
        sum_value[d] = vec4(0.0);
    }
    var largest = MOST_NEGATIVE;
    var sum = 0.0;
    for (var key0 = 0u; key0 <= position; key0 += 4u) {
        // Keys past the position are read as the last one and masked.
        let keys = min(vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u), vec4(position));
        let rows = (vec4(first_row) + keys) * kv_stride + kv_offset;
        var s = vec4(0.0);
        for (var d = 0u; d < QUADS; d++) {
            s += vec4(
                dot(q[d], key_quad(rows.x, d)),
                dot(q[d], key_quad(rows.y, d)),
                dot(q[d], key_quad(rows.z, d)),
                dot(q[d], key_quad(rows.w, d)),
            );
        }
        let masked = vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u) > vec4(position);
        s = select(s, vec4(MOST_NEGATIVE), masked);
        let new_largest = max(largest, max(max(s.x, s.y), max(s.z, s.w)));
        let shrink = exp(largest - new_largest);
        let p = select(exp(s - new_largest), vec4(0.0), masked);
        sum = sum * shrink + (p.x + p.y + p.z + p.w);
        for (var d = 0u; d < QUADS; d++) {
            sum_value[d] = sum_value[d] * shrink
                + p.x * value_quad(rows.x, d)
                + p.y * value_quad(rows.y, d)
                + p.z * value_quad(rows.z, d)
                + p.w * value_quad(rows.w, d);
        }
        largest = new_largest;
    }
    for (var d = 0u; d < QUADS; d++) {
        for (var i = 0u; i < 4u && d * 4u + i < HEAD_DIM; i++) {
            output[query_row + d * 4u + i] = sum_value[d][i] / sum;
        }
    }
    log_sum_exp[(group.z * params.num_heads + head) * params.time + position] = largest + log(sum);
}
