// Gradient of causal attention for keys and values, over all queries that see them and all heads that
// share them, probabilities recomputed from the log-sum-exp:
// d_value = p . d_output, d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
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
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;        // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> delta: array<f32>;              // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;       // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<vec4<f32>>;  // lies as qkv does

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let kv_head = group.y;
    let heads_per_group = params.num_heads / params.num_kv_heads;
    let first_row = group.z * params.time;
    var positions: array<u32, 2>;
    var k: array<vec4<f32>, 64>;
    var v: array<vec4<f32>, 64>;
    var key_sums: array<vec4<f32>, 64>;
    var value_sums: array<vec4<f32>, 64>;
    for (var r = 0u; r < ROWS; r++) {
        positions[r] = position_of(group.x, lane, r);
        for (var d = 0u; d < QUADS; d++) {
            k[r * QUADS + d] = key_quad(first_row + positions[r], kv_head, d) * params.scale;
            v[r * QUADS + d] = value_quad(first_row + positions[r], kv_head, d);
        }
    }
    for (var h = 0u; h < heads_per_group; h++) {
        let head = kv_head * heads_per_group + h;
        let statistics = (group.z * params.num_heads + head) * params.time;
        // The first queries may come before the rows, which are masked.
        for (var query0 = group.x * LANES * ROWS; query0 < params.time; query0 += LANES) {
            let own = min(query0 + lane, params.time - 1u);
            let own_log_sum_exp = log_sum_exp[statistics + own];
            let own_delta = delta[statistics + own];
            var queries: array<vec4<f32>, 32>;
            var d_outputs: array<vec4<f32>, 32>;
            for (var d = 0u; d < QUADS; d++) {
                queries[d] = query_quad(first_row + own, head, d);
                d_outputs[d] = d_output_quad(first_row + own, head, d);
            }
            let count = min(LANES, params.time - query0);
            for (var j = 0u; j < count; j++) {
                var score: array<f32, 2>;
                var d_p: array<f32, 2>;
                for (var d = 0u; d < QUADS; d++) {
                    let q = subgroupShuffle(queries[d], j);
                    let d_out = subgroupShuffle(d_outputs[d], j);
                    for (var r = 0u; r < ROWS; r++) {
                        score[r] += dot(k[r * QUADS + d], q);
                        d_p[r] += dot(v[r * QUADS + d], d_out);
                    }
                }
                let row_log_sum_exp = subgroupShuffle(own_log_sum_exp, j);
                let row_delta = subgroupShuffle(own_delta, j);
                var p: array<f32, 2>;
                var d_score: array<f32, 2>;
                for (var r = 0u; r < ROWS; r++) {
                    p[r] = select(exp(score[r] - row_log_sum_exp), 0.0, query0 + j < positions[r]);
                    d_score[r] = p[r] * (d_p[r] - row_delta) * params.scale;
                }
                for (var d = 0u; d < QUADS; d++) {
                    let q = subgroupShuffle(queries[d], j);
                    let d_out = subgroupShuffle(d_outputs[d], j);
                    for (var r = 0u; r < ROWS; r++) {
                        key_sums[r * QUADS + d] += d_score[r] * q;
                        value_sums[r * QUADS + d] += p[r] * d_out;
                    }
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if (is_past_end(group.x, lane, r)) {
            return;
        }
        let first = (first_row + positions[r]) * params.row_stride / 4u + kv_head * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            let quad = turned_back(key_sums[r * QUADS + d], (positions[r] * QUADS + d) * 4u, true);
            d_qkv[first + params.key_first / 4u + d] = quad;
            d_qkv[first + params.value_first / 4u + d] = value_sums[r * QUADS + d];
        }
    }
}
