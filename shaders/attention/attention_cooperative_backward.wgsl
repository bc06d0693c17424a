// What both backward kernels by cooperative matrices share: the output's gradient in the tile, and gradients
// on their way to memory. The kernel's own file declares d_output, d_qkv and angles.
// Joined with attention_cooperative.wgsl, attention_turned_back.wgsl, cooperative_16.wgsl or cooperative_8.wgsl.
// Joined with half_bits.wgsl.
const LOG2_E: f32 = 1.4426950408889634;
// Factors of what is rounded to 2-byte floats, against numbers too small for these: probabilities, which are at
// most one, and gradients of scores, which the loss scale keeps below the largest.
const WEIGHT_FACTOR: f32 = 4096.0;
const D_SCORE_FACTOR: f32 = 256.0;

// The last of the most matrices of a second operand stays in workgroup memory, where AMD's compiler would
// spill registers before it has packed both.
const IN_REGISTERS: u32 = MOST_MATRICES - 1u;
const LAST_PITCH: u32 = SIDE + 8u;

var<workgroup> last_matrix: array<f16, ROWS * LAST_PITCH>;

// As `take_rows`, of a second operand.
fn take_second_rows(rows: ptr<function, Operands>, lane: u32, subgroup: u32) {
    let pitch = PITCH;
    for (var i = 0u; i < min(MATRICES, IN_REGISTERS); i++) {
        let at = subgroup % 4u * SIDE * PITCH + i * SIDE;
        (*rows)[i] = coopLoadT<OperandA>(&tile[at], pitch);
    }
    if (MATRICES > IN_REGISTERS) {
        for (var i = lane; i < ROWS * SIDE; i += LANES) {
            last_matrix[i / SIDE * LAST_PITCH + i % SIDE] = tile[i / SIDE * PITCH + IN_REGISTERS * SIDE + i % SIDE];
        }
    }
}

// As `keep_dots`, of a second operand.
fn keep_second_dots(rows: ptr<function, Operands>, subgroup: u32, first: u32) {
    var left: Sums;
    var right: Sums;
    left = Sums();
    right = Sums();
    for (var i = 0u; i < min(MATRICES, IN_REGISTERS); i++) {
        let at = first * PITCH + i * SIDE;
        left = coopMultiplyAdd((*rows)[i], column_matrix(at), left);
        right = coopMultiplyAdd((*rows)[i], column_matrix(at + SIDE * PITCH), right);
    }
    if (MATRICES > IN_REGISTERS) {
        let last_at = subgroup % 4u * SIDE * LAST_PITCH;
        let pitch = LAST_PITCH;
        let last = coopLoadT<OperandA>(&last_matrix[last_at], pitch);
        let at = first * PITCH + IN_REGISTERS * SIDE;
        left = coopMultiplyAdd(last, column_matrix(at), left);
        right = coopMultiplyAdd(last, column_matrix(at + SIDE * PITCH), right);
    }
    keep_pair(subgroup, left, right);
}

// `count` rows of a head's gradient from a position on to the tile's rows from `row` on.
fn stage_d_output(lane: u32, row: u32, count: u32, sequence: u32, position: u32, head: u32) {
    for (var i = lane; i < count * HEAD_QUADS; i += LANES) {
        let line = i / HEAD_QUADS;
        let element = i % HEAD_QUADS * 4u;
        keep_quad(row + line, element, d_output_quad(sequence, position + line, head, element));
    }
}

// As `qkv_quad` of qkv.
fn d_output_quad(sequence: u32, position: u32, head: u32, element: u32) -> vec4<f16> {
    if (position >= params.time || element >= HEAD_DIM) {
        return vec4<f16>();
    }
    let at = ((sequence * params.time + position) * params.num_heads + head) * HEAD_DIM + element;
    var quad = d_output[at / 4u];
    if (HEAD_DIM % 4u != 0u && at % 4u != 0u) {
        quad = vec4(quad.zw, vec2<f16>());
        if (element + 4u <= HEAD_DIM) {
            quad = vec4(quad.xy, d_output[at / 4u + 1u].xy);
        }
    }
    return within_head(quad, element);
}

// Writes four sums of a head's gradient, or the two that it has, turned back if the goal asks for it.
fn store_quad(goal: Goal, line: u32, element: u32, sums: vec4<f32>) {
    let position = goal.row0 + line;
    let is_whole = element + 4u <= HEAD_DIM;
    var quad = sums * goal.factor;
    if (goal.rotated) {
        quad = turned_back(quad, position * HEAD_DIM + element, is_whole);
    }
    let halves = packed_halves(quad);
    let at = (goal.first + line * params.row_stride + element) / 2u;
    d_qkv[at] = halves.x;
    if (is_whole) {
        d_qkv[at + 1u] = halves.y;
    }
}
