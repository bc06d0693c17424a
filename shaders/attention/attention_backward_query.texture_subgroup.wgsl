// Gradient of causal attention for queries, probabilities recomputed from the log-sum-exp:
// delta = d_output . output, d_score = p * (d_output . value - delta),
// d_query = scale * sum of d_score . key. Keeps delta for the keys' and values' gradients.
// For drivers that run shaders on the CPU: there a texel costs as much as 18 broadcasts.
// Joined with attention_d_output_quad.texture.wgsl, attention_quads.texture.wgsl, attention_subgroup.wgsl.
// Joined with attention_turned_back.wgsl, subgroup_lanes.wgsl.
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

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let head = group.y;
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let first_row = group.z * params.time;
    let statistics = (group.z * params.num_heads + head) * params.time;
    var positions: array<u32, 2>;
    var row_log_sum_exp: array<f32, 2>;
    var row_delta: array<f32, 2>;
    var q: array<vec4<f32>, 64>;
    var d_out: array<vec4<f32>, 64>;
    var sums: array<vec4<f32>, 64>;
    for (var r = 0u; r < ROWS; r++) {
        positions[r] = position_of(group.x, lane, r);
        row_log_sum_exp[r] = log_sum_exp[statistics + positions[r]];
        let first = ((first_row + positions[r]) * params.num_heads + head) * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            q[r * QUADS + d] = query_quad(first_row + positions[r], head, d) * params.scale;
            d_out[r * QUADS + d] = d_output_quad(first_row + positions[r], head, d);
            row_delta[r] += dot(d_out[r * QUADS + d], output[first + d]);
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
        for (var j = 0u; j < count; j++) {
            var score: array<f32, 2>;
            var d_p: array<f32, 2>;
            for (var d = 0u; d < QUADS; d++) {
                let k = subgroupShuffle(keys[d], j);
                let v = subgroupShuffle(values[d], j);
                for (var r = 0u; r < ROWS; r++) {
                    score[r] += dot(q[r * QUADS + d], k);
                    d_p[r] += dot(d_out[r * QUADS + d], v);
                }
            }
            var d_score: array<f32, 2>;
            for (var r = 0u; r < ROWS; r++) {
                let p = select(exp(score[r] - row_log_sum_exp[r]), 0.0, key0 + j > positions[r]);
                d_score[r] = p * (d_p[r] - row_delta[r]) * params.scale;
            }
            for (var d = 0u; d < QUADS; d++) {
                let k = subgroupShuffle(keys[d], j);
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * QUADS + d] += d_score[r] * k;
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if (is_past_end(group.x, lane, r)) {
            return;
        }
        let first = (first_row + positions[r]) * params.row_stride / 4u + head * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            d_qkv[first + d] = turned_back(sums[r * QUADS + d], (positions[r] * QUADS + d) * 4u, true);
        }
        delta[statistics + positions[r]] = row_delta[r];
    }
}
