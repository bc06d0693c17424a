// Gradient of causal attention for the queries by cooperative matrices: a workgroup takes 4 SIDE queries of a
// head and goes through the keys that they see, 2 SIDE at a time, with probabilities recomputed from the
// log-sum-exp: delta = d_output . output, d_score = p * (d_output . value - delta),
// d_query = scale * d_score . key (Dao et al. 2022). Keeps delta for the keys' and values' gradients.
// d_scores are rounded to 2-byte floats.
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
@group(0) @binding(3) var<storage, read> output: array<vec2<f16>>;    // [batch * time, num_heads * head_dim]
@group(0) @binding(4) var<storage, read> log_sum_exp: array<f32>;     // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;    // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<u32>;     // lies as qkv does
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;     // [batch, num_heads, time]

override HEAD_DIM: u32 = 64u;

// The dot product of the row's gradient, which is in the tile, and output, of a lane's share of the head.
fn delta_part(lane: u32, first: u32) -> f32 {
    let row = lane / LANES_OF_ROW;
    var sum = 0.0;
    for (var element = lane % LANES_OF_ROW * 2u; element < HEAD_DIM; element += LANES_OF_ROW * 2u) {
        let at = row * PITCH + element;
        let gradient = vec2(f32(tile[at]), f32(tile[at + 1u]));
        sum += dot(gradient, vec2<f32>(output[(first + element) / 2u]));
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    // The longest rows first, so that short ones fill the gaps at the end.
    let row0 = ((params.time - 1u) / ROWS - group.x) * ROWS;
    let sequence = group.z;
    let head = group.y;
    let kv_col = head / (params.num_heads / params.num_kv_heads) * HEAD_DIM;
    let row = lane / LANES_OF_ROW;
    let position = min(row0 + row, params.time - 1u);
    let statistics = (sequence * params.num_heads + head) * params.time + position;
    stage_qkv(lane, 0u, ROWS, sequence, row0, head * HEAD_DIM);
    // The queries are whole.
    workgroupBarrier();
    var queries: Operands;
    take_rows(&queries, subgroup);
    // Every subgroup has its queries.
    workgroupBarrier();
    stage_d_output(lane, 0u, ROWS, sequence, row0, head);
    // The gradients are whole.
    workgroupBarrier();
    var gradients: Operands;
    take_second_rows(&gradients, lane, subgroup);
    sums_tile[lane] = delta_part(lane, ((sequence * params.time + position) * params.num_heads + head) * HEAD_DIM);
    // The lanes' parts are there.
    workgroupBarrier();
    var row_delta = 0.0;
    for (var i = 0u; i < LANES_OF_ROW; i++) {
        row_delta += sums_tile[row * LANES_OF_ROW + i];
    }
    if (lane % LANES_OF_ROW == 0u && row0 + row < params.time) {
        delta[statistics] = row_delta;
    }
    let row_log_sum_exp = log_sum_exp[statistics] * LOG2_E;
    let weights = weights_instead_of(COLS);
    // A lane's columns are every so many of its row.
    let col0 = lane % LANES_OF_ROW;
    let sums_at = row * SUMS_PITCH + col0;
    let weights_at = weights + row * WEIGHTS_PITCH + col0;
    var sums: HeadSums;
    clear(&sums);
    // Blocks above the diagonal are left out.
    let end = min(row0 + ROWS, params.time);
    for (var key0 = 0u; key0 < end; key0 += COLS) {
        // Every subgroup is done with what the tile held before.
        workgroupBarrier();
        stage_qkv(lane, 0u, COLS, sequence, key0, params.key_first + kv_col);
        stage_qkv(lane, COLS, COLS, sequence, key0, params.value_first + kv_col);
        // Keys and values are whole.
        workgroupBarrier();
        keep_dots(&queries, subgroup, 0u);
        // The scores are whole.
        workgroupBarrier();
        var p: array<f32, COLS>;
        for (var i = 0u; i < COLS / LANES_OF_ROW; i++) {
            let score = sums_tile[sums_at + i * LANES_OF_ROW] * params.scale * LOG2_E;
            p[i] = select(0.0, exp2(score - row_log_sum_exp), key0 + col0 + i * LANES_OF_ROW <= position);
        }
        // Every lane has its scores.
        workgroupBarrier();
        keep_second_dots(&gradients, subgroup, COLS);
        // The gradients of the probabilities are whole, and nobody needs the values any more.
        workgroupBarrier();
        for (var i = 0u; i < COLS / LANES_OF_ROW; i++) {
            let d_score = p[i] * (sums_tile[sums_at + i * LANES_OF_ROW] - row_delta) * params.scale;
            tile[weights_at + i * LANES_OF_ROW] = rounded_half(d_score * D_SCORE_FACTOR);
        }
        // They are whole.
        workgroupBarrier();
        add_weighted(&sums, subgroup, weights, 0u);
    }
    let first = (sequence * params.time + row0) * params.row_stride + head * HEAD_DIM;
    store_sums(&sums, lane, subgroup, Goal(row0, first, 1.0 / D_SCORE_FACTOR, true));
}
