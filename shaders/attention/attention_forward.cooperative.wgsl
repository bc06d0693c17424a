// Causal attention with online softmax by cooperative matrices: a workgroup takes 4 SIDE queries of a head and
// goes through the keys that they see, 2 SIDE at a time. Weights are probabilities relative to a power of two
// near their row's largest, rounded to 2-byte floats: where keys are cut changes no bit of them.
// The log-sum-exp of each row is kept for the backward pass.
// Joined with attention_cooperative.wgsl, cooperative_16.wgsl or cooperative_8.wgsl, half_bits.wgsl, most_negative.wgsl.
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
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f16>>;          // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read_write> output: array<u32>;       // [batch * time, num_heads * head_dim], two a word
@group(0) @binding(3) var<storage, read_write> log_sum_exp: array<f32>;  // [batch, num_heads, time]

override HEAD_DIM: u32 = 64u;

const LOG2_E: f32 = 1.4426950408889634;
const LN_2: f32 = 0.6931471805599453;
// Weights reach 2^(SHIFT + SLACK), below the largest half, and are normal down to 2^-(14 + SHIFT).
const SHIFT: f32 = 12.0;
// How many powers of two a row's largest score may pass the reference before sums are scaled down.
const SLACK: f32 = 3.0;

// Whether a row has a new reference; whoever writes it writes the same.
var<workgroup> raised: u32;
var<workgroup> factors: array<f32, ROWS>;

// What a lane knows of its row.
struct Row {
    position: u32,
    reference: f32,  // a whole number: scores are powers of two
    total: f32,      // of the lane's own columns' weights
}

// Turns scores of row `row` into weights.
fn soften(state: ptr<function, Row>, lane: u32, key0: u32, weights: u32) {
    let row = lane / LANES_OF_ROW;
    let scale = params.scale * LOG2_E;
    let seen = min((*state).position + 1u - min(key0, (*state).position + 1u), COLS);
    var largest = MOST_NEGATIVE;
    for (var col = 0u; col < seen; col++) {
        largest = max(largest, sums_tile[row * SUMS_PITCH + col] * scale);
    }
    var factor = 1.0;
    if (largest > (*state).reference + SLACK) {
        let reference = ceil(largest);
        factor = exp2((*state).reference - reference);
        (*state).reference = reference;
        raised = 1u;
    }
    factors[row] = factor;
    var total = (*state).total * factor;
    // A lane's columns are every so many of its row.
    let col0 = lane % LANES_OF_ROW;
    let sums_at = row * SUMS_PITCH + col0;
    let weights_at = weights + row * WEIGHTS_PITCH + col0;
    for (var i = 0u; i < COLS; i += LANES_OF_ROW) {
        let score = sums_tile[sums_at + i] * scale;
        let weight = select(0.0, exp2(score - (*state).reference + SHIFT), col0 + i < seen);
        total += weight;
        tile[weights_at + i] = rounded_half(weight);
    }
    (*state).total = total;
}

// Multiplies each row of the sums with its factor, pair by pair as `store_sums` goes through them.
fn scale_down(sums: ptr<function, HeadSums>, lane: u32, subgroup: u32) {
    scale_pair(sums, lane, subgroup, 0u);
    if (MATRICES > 2u) { scale_pair(sums, lane, subgroup, 2u); }
    if (MATRICES > 4u) { scale_pair(sums, lane, subgroup, 4u); }
    if (MATRICES > 6u) { scale_pair(sums, lane, subgroup, 6u); }
    if (MATRICES > 8u) { scale_pair(sums, lane, subgroup, 8u % MOST_MATRICES); }
    if (MATRICES > 10u) { scale_pair(sums, lane, subgroup, 10u % MOST_MATRICES); }
    if (MATRICES > 12u) { scale_pair(sums, lane, subgroup, 12u % MOST_MATRICES); }
    if (MATRICES > 14u) { scale_pair(sums, lane, subgroup, 14u % MOST_MATRICES); }
}

fn scale_pair(sums: ptr<function, HeadSums>, lane: u32, subgroup: u32, i: u32) {
    // Every lane is done with the scores, or the pair before.
    workgroupBarrier();
    keep_pair(subgroup, (*sums)[i], (*sums)[i + 1u]);
    // The pair is whole.
    workgroupBarrier();
    for (var j = lane; j < ROWS * COLS; j += LANES) {
        sums_tile[j / COLS * SUMS_PITCH + j % COLS] *= factors[j / COLS];
    }
    // It is scaled.
    workgroupBarrier();
    let pitch = SUMS_PITCH;
    let left_at = min(subgroup, 4u) * SIDE * SUMS_PITCH;
    let right_at = left_at + SIDE;
    (*sums)[i] = coopLoadT<Sums>(&sums_tile[left_at], pitch);
    (*sums)[i + 1u] = coopLoadT<Sums>(&sums_tile[right_at], pitch);
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
    stage_qkv(lane, 0u, ROWS, sequence, row0, head * HEAD_DIM);
    // The queries are whole.
    workgroupBarrier();
    var queries: Operands;
    take_rows(&queries, subgroup);
    var sums: HeadSums;
    clear(&sums);
    let row = lane / LANES_OF_ROW;
    var state = Row(row0 + row, MOST_NEGATIVE, 0.0);
    let weights = weights_instead_of(0u);
    // Blocks above the diagonal are left out.
    let end = min(row0 + ROWS, params.time);
    for (var key0 = 0u; key0 < end; key0 += COLS) {
        // Every subgroup is done with what the tile held before.
        workgroupBarrier();
        if (lane == 0u) {
            raised = 0u;
        }
        stage_qkv(lane, 0u, COLS, sequence, key0, params.key_first + kv_col);
        stage_qkv(lane, COLS, COLS, sequence, key0, params.value_first + kv_col);
        // Keys and values are whole.
        workgroupBarrier();
        keep_dots(&queries, subgroup, 0u);
        // The scores are whole, and nobody needs the keys any more.
        workgroupBarrier();
        soften(&state, lane, key0, weights);
        // As a barrier it makes the weights whole. Before the first block there are no sums.
        if (workgroupUniformLoad(&raised) != 0u && key0 > 0u) {
            scale_down(&sums, lane, subgroup);
        }
        add_weighted(&sums, subgroup, weights, COLS);
    }
    // Every lane is done with the last scores.
    workgroupBarrier();
    sums_tile[lane] = state.total;
    // The lanes' parts are there.
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < LANES_OF_ROW; i++) {
        total += sums_tile[row * LANES_OF_ROW + i];
    }
    factors[row] = 1.0 / total;
    if (lane % LANES_OF_ROW == 0u && state.position < params.time) {
        let at = (sequence * params.num_heads + head) * params.time + state.position;
        log_sum_exp[at] = (state.reference - SHIFT + log2(total)) * LN_2;
    }
    let first = ((sequence * params.time + row0) * params.num_heads + head) * HEAD_DIM;
    store_sums(&sums, lane, subgroup, Goal(row0, first, 1.0, false));
}

// Writes four sums of a head, or the two that it has, times their row's factor.
fn store_quad(goal: Goal, line: u32, element: u32, sums: vec4<f32>) {
    let halves = packed_halves(sums * factors[line]);
    let at = (goal.first + line * params.num_heads * HEAD_DIM + element) / 2u;
    output[at] = halves.x;
    if (element + 2u < HEAD_DIM) {
        output[at + 1u] = halves.y;
    }
}
