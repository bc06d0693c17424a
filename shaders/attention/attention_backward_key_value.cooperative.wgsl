// Gradient of causal attention for keys and values by cooperative matrices: a workgroup takes 4 SIDE keys of a
// head and goes through the queries that see them, 2 SIDE at a time, of all heads that share the keys, with
// probabilities recomputed from the log-sum-exp: d_value = p . d_output,
// d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
// Probabilities and d_scores are rounded to 2-byte floats.
// Joined with attention_cooperative.wgsl, attention_cooperative_backward.wgsl.
enable f16;
enable wgpu_cooperative_matrix;

struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    row_stride: u32,   // elements of a row of qkv
    key_first: u32,    // column of the first key head
    value_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f16>>;       // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> d_output: array<vec4<f16>>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;     // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> delta: array<f32>;           // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;    // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<u32>;     // lies as qkv does

override HEAD_DIM: u32 = 64u;
// Heads over 64 take two launches, one a gradient, since sums for both do not fit the registers.
override WRITES_KEY: bool = true;
override WRITES_VALUE: bool = true;

var<workgroup> statistics: array<vec2<f32>, COLS>;  // of each query: log-sum-exp in powers of two, and delta

// Where a tile of probabilities or of d_scores begins: where no later product of the block reads.
fn weights_begin() -> u32 {
    if (WRITES_KEY && WRITES_VALUE) {
        return weights_behind();
    }
    return weights_instead_of(select(0u, COLS, WRITES_KEY));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    // The first keys are seen by the most queries, so the longest rows come first.
    let row0 = group.x * ROWS;
    let sequence = group.z;
    let row = lane / LANES_OF_ROW;
    let position = row0 + row;
    let key_col = params.key_first + group.y * HEAD_DIM;
    let value_col = params.value_first + group.y * HEAD_DIM;
    var keys: Operands;
    var values: Operands;
    stage_qkv(lane, 0u, ROWS, sequence, row0, key_col);
    // The keys are whole.
    workgroupBarrier();
    take_rows(&keys, subgroup);
    if (WRITES_KEY) {
        // Every subgroup has its keys.
        workgroupBarrier();
        stage_qkv(lane, 0u, ROWS, sequence, row0, value_col);
        // The values are whole.
        workgroupBarrier();
        take_second_rows(&values, lane, subgroup);
    }
    let weights = weights_begin();
    // A lane's columns are every so many of its row.
    let col0 = lane % LANES_OF_ROW;
    let sums_at = row * SUMS_PITCH + col0;
    let weights_at = weights + row * WEIGHTS_PITCH + col0;
    var key_sums: HeadSums;
    clear(&key_sums);
    var value_sums: HeadSums;
    clear(&value_sums);
    let heads_per_group = params.num_heads / params.num_kv_heads;
    for (var h = 0u; h < heads_per_group; h++) {
        let head = group.y * heads_per_group + h;
        // Blocks above the diagonal are left out.
        for (var query0 = row0; query0 < params.time; query0 += COLS) {
            // Every subgroup is done with what the tile held before.
            workgroupBarrier();
            stage_qkv(lane, 0u, COLS, sequence, query0, head * HEAD_DIM);
            stage_d_output(lane, COLS, COLS, sequence, query0, head);
            for (var col = lane; col < COLS; col += LANES) {
                let at = (sequence * params.num_heads + head) * params.time + min(query0 + col, params.time - 1u);
                statistics[col] = vec2(log_sum_exp[at] * LOG2_E, delta[at]);
            }
            // Queries, gradients and their numbers are whole.
            workgroupBarrier();
            keep_dots(&keys, subgroup, 0u);
            // The scores are whole, and where d_keys are not asked for nobody needs the queries any more.
            workgroupBarrier();
            var p: array<f32, COLS>;
            for (var i = 0u; i < COLS / LANES_OF_ROW; i++) {
                let score = sums_tile[sums_at + i * LANES_OF_ROW] * params.scale * LOG2_E;
                let query = query0 + col0 + i * LANES_OF_ROW;
                let row_log_sum_exp = statistics[col0 + i * LANES_OF_ROW].x;
                p[i] = select(0.0, exp2(score - row_log_sum_exp), query >= position && query < params.time);
                if (WRITES_VALUE) {
                    tile[weights_at + i * LANES_OF_ROW] = rounded_half(p[i] * WEIGHT_FACTOR);
                }
            }
            // Every lane has its scores, and the weights are whole.
            workgroupBarrier();
            if (WRITES_VALUE) {
                add_weighted(&value_sums, subgroup, weights, COLS);
            }
            if (WRITES_KEY) {
                keep_second_dots(&values, subgroup, COLS);
                // The gradients of the probabilities are whole, and nobody needs those of the output any more.
                workgroupBarrier();
                for (var i = 0u; i < COLS / LANES_OF_ROW; i++) {
                    let d_p = sums_tile[sums_at + i * LANES_OF_ROW] - statistics[col0 + i * LANES_OF_ROW].y;
                    let d_score = p[i] * d_p * params.scale;
                    tile[weights_at + i * LANES_OF_ROW] = rounded_half(d_score * D_SCORE_FACTOR);
                }
                // They are whole.
                workgroupBarrier();
                add_weighted(&key_sums, subgroup, weights, 0u);
            }
        }
    }
    let first = (sequence * params.time + row0) * params.row_stride;
    if (WRITES_KEY) {
        store_sums(&key_sums, lane, subgroup, Goal(row0, first + key_col, 1.0 / D_SCORE_FACTOR, true));
    }
    if (WRITES_VALUE) {
        store_sums(&value_sums, lane, subgroup, Goal(row0, first + value_col, 1.0 / WEIGHT_FACTOR, false));
    }
}
