// Causal attention with an online softmax (Dao et al. 2022), two keys at a time, and the log-sum-exp of
// each row kept for the backward pass.
// For drivers that run shaders on the CPU: there a texel costs as much as 18 broadcasts.
// Joined with attention_quads.texture.wgsl, attention_subgroup.wgsl, most_negative.wgsl, subgroup_lanes.wgsl.
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

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let head = group.y;
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let first_row = group.z * params.time;
    var positions: array<u32, 2>;
    var q: array<vec4<f32>, 64>;
    var sums: array<vec4<f32>, 64>;
    var largest: array<f32, 2>;
    var weight: array<f32, 2>;
    for (var r = 0u; r < ROWS; r++) {
        positions[r] = position_of(group.x, lane, r);
        largest[r] = MOST_NEGATIVE;
        for (var d = 0u; d < QUADS; d++) {
            q[r * QUADS + d] = query_quad(first_row + positions[r], head, d) * params.scale;
        }
    }
    let end = min((group.x + 1u) * LANES * ROWS, params.time);
    for (var key0 = 0u; key0 < end; key0 += LANES) {
        let own = first_row + min(key0 + lane, params.time - 1u);
        var keys: array<vec4<f32>, 32>;
        var values: array<vec4<f32>, 32>;
        for (var d = 0u; d < QUADS; d++) {
            keys[d] = key_quad(own, kv_head, d);
            values[d] = value_quad(own, kv_head, d);
        }
        let count = min(LANES, end - key0);
        for (var j = 0u; j < count; j += 2u) {
            var scores: array<vec2<f32>, 2>;
            for (var d = 0u; d < QUADS; d++) {
                let k0 = subgroupShuffle(keys[d], j);
                let k1 = subgroupShuffle(keys[d], j + 1u);
                for (var r = 0u; r < ROWS; r++) {
                    scores[r] += vec2(dot(q[r * QUADS + d], k0), dot(q[r * QUADS + d], k1));
                }
            }
            var p: array<vec2<f32>, 2>;
            var shrink: array<f32, 2>;
            for (var r = 0u; r < ROWS; r++) {
                // The second of two keys may also lie past the end, where no row is.
                let unseen = vec2(key0 + j) + vec2(0u, 1u) > vec2(positions[r]);
                let seen = select(scores[r], vec2(MOST_NEGATIVE), unseen);
                let new_largest = max(largest[r], max(seen.x, seen.y));
                shrink[r] = exp(largest[r] - new_largest);
                p[r] = exp(seen - new_largest);
                weight[r] = weight[r] * shrink[r] + (p[r].x + p[r].y);
                largest[r] = new_largest;
            }
            for (var d = 0u; d < QUADS; d++) {
                let v0 = subgroupShuffle(values[d], j);
                let v1 = subgroupShuffle(values[d], j + 1u);
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * QUADS + d] = sums[r * QUADS + d] * shrink[r] + p[r].x * v0 + p[r].y * v1;
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if (is_past_end(group.x, lane, r)) {
            return;
        }
        let first = ((first_row + positions[r]) * params.num_heads + head) * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            output[first + d] = sums[r * QUADS + d] / weight[r];
        }
        let row = (group.z * params.num_heads + head) * params.time + positions[r];
        log_sum_exp[row] = largest[r] + log(weight[r]);
    }
}
