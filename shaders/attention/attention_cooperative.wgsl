// Attention by cooperative matrices. Each of four subgroups has SIDE rows of a tile, and holds their operands
// and sums in matrices along the head; the rows that they meet are columns, 2 SIDE at a time, of which
// workgroup memory has two operands, near and far. Heads are padded with zeros to whole matrices.
// The kernel's own file declares HEAD_DIM.
// Joined with cooperative_16.wgsl or cooperative_8.wgsl.
override LANES: u32 = 128u;
override MATRICES: u32 = (HEAD_DIM + SIDE - 1u) / SIDE;
override HEAD_QUADS: u32 = MATRICES * SIDE / 4u;
override LANES_OF_ROW: u32 = LANES / ROWS;

const MOST_MATRICES: u32 = 128u / SIDE;
const ROWS: u32 = 4u * SIDE;
const COLS: u32 = 2u * SIDE;
// Of rows of workgroup memory, so that lanes meet different banks.
override PITCH: u32 = MATRICES * SIDE + 8u;
const WEIGHTS_PITCH: u32 = COLS + 8u;
const SUMS_PITCH: u32 = COLS + 4u;

alias Operands = array<OperandA, MOST_MATRICES>;
alias HeadSums = array<Sums, MOST_MATRICES>;

// [ROWS, PITCH], in halves of COLS rows: near and far; and weights [ROWS, WEIGHTS_PITCH], which take the place
// of a half where that is large enough, and lie behind both where not.
var<workgroup> tile: array<f16, ROWS * (128u + 8u)>;
// The last strip is for subgroups past the fourth, which compute what nobody reads.
var<workgroup> sums_tile: array<f32, 5u * SIDE * SUMS_PITCH>;

// Where weights begin that may take the place of the half of row `first`.
fn weights_instead_of(first: u32) -> u32 {
    return select(weights_behind(), first * PITCH, COLS * PITCH >= ROWS * WEIGHTS_PITCH);
}

fn weights_behind() -> u32 {
    return ROWS * PITCH;
}

// `count` rows of a head, from a position of a sequence and a column of qkv on, to the tile's rows from `row` on.
fn stage_qkv(lane: u32, row: u32, count: u32, sequence: u32, position: u32, col: u32) {
    for (var i = lane; i < count * HEAD_QUADS; i += LANES) {
        let line = i / HEAD_QUADS;
        let element = i % HEAD_QUADS * 4u;
        keep_quad(row + line, element, qkv_quad(sequence, position + line, col, element));
    }
}

fn keep_quad(row: u32, element: u32, quad: vec4<f16>) {
    let at = row * PITCH + element;
    tile[at] = quad.x;
    tile[at + 1u] = quad.y;
    tile[at + 2u] = quad.z;
    tile[at + 3u] = quad.w;
}

// Four elements of a head; zeros past its end and past the sequence's.
fn qkv_quad(sequence: u32, position: u32, col: u32, element: u32) -> vec4<f16> {
    if (position >= params.time || element >= HEAD_DIM) {
        return vec4<f16>();
    }
    let at = (sequence * params.time + position) * params.row_stride + col + element;
    var quad = qkv[at / 4u];
    // A quad may begin in the middle of a word of four, and the last one holds two elements.
    if (HEAD_DIM % 4u != 0u && at % 4u != 0u) {
        quad = vec4(quad.zw, vec2<f16>());
        if (element + 4u <= HEAD_DIM) {
            quad = vec4(quad.xy, qkv[at / 4u + 1u].xy);
        }
    }
    return within_head(quad, element);
}

fn within_head(quad: vec4<f16>, element: u32) -> vec4<f16> {
    return select(vec4<f16>(), quad, vec4(element) + vec4(0u, 1u, 2u, 3u) < vec4(HEAD_DIM));
}

// A subgroup's rows of the tile.
fn take_rows(rows: ptr<function, Operands>, subgroup: u32) {
    let pitch = PITCH;
    for (var i = 0u; i < MATRICES; i++) {
        let at = subgroup % 4u * SIDE * PITCH + i * SIDE;
        (*rows)[i] = coopLoadT<OperandA>(&tile[at], pitch);
    }
}

// Dot products of a subgroup's rows with the columns in the half of row `first`.
fn keep_dots(rows: ptr<function, Operands>, subgroup: u32, first: u32) {
    var left: Sums;
    var right: Sums;
    left = Sums();
    right = Sums();
    for (var i = 0u; i < MATRICES; i++) {
        let at = first * PITCH + i * SIDE;
        left = coopMultiplyAdd((*rows)[i], column_matrix(at), left);
        right = coopMultiplyAdd((*rows)[i], column_matrix(at + SIDE * PITCH), right);
    }
    keep_pair(subgroup, left, right);
}

// SIDE columns of the tile, which lie in its rows.
fn column_matrix(at: u32) -> OperandB {
    let pitch = PITCH;
    return coopLoad<OperandB>(&tile[at], pitch);
}

// Two neighbouring matrices of a subgroup's rows, for lanes to read.
fn keep_pair(subgroup: u32, left: Sums, right: Sums) {
    let left_at = min(subgroup, 4u) * SIDE * SUMS_PITCH;
    let right_at = left_at + SIDE;
    let pitch = SUMS_PITCH;
    coopStoreT(left, &sums_tile[left_at], pitch);
    coopStoreT(right, &sums_tile[right_at], pitch);
}

fn kept_quad(row: u32, col: u32) -> vec4<f32> {
    let at = row * SUMS_PITCH + col;
    return vec4(sums_tile[at], sums_tile[at + 1u], sums_tile[at + 2u], sums_tile[at + 3u]);
}

// Zeros, by statements: Mesa 25.0's AMD driver takes what a variable of matrices begins with from anywhere.
fn clear(sums: ptr<function, HeadSums>) {
    for (var i = 0u; i < MOST_MATRICES; i++) {
        (*sums)[i] = Sums();
    }
}

// sums += weights of a subgroup's rows times the columns in the half of row `first`.
fn add_weighted(sums: ptr<function, HeadSums>, subgroup: u32, weights: u32, first: u32) {
    let pitch = PITCH;
    let weights_pitch = WEIGHTS_PITCH;
    for (var step = 0u; step < COLS; step += SIDE) {
        let weights_at = weights + subgroup % 4u * SIDE * WEIGHTS_PITCH + step;
        let a = coopLoadT<OperandA>(&tile[weights_at], weights_pitch);
        for (var i = 0u; i < MATRICES; i++) {
            let at = (first + step) * PITCH + i * SIDE;
            (*sums)[i] = coopMultiplyAdd(a, coopLoadT<OperandB>(&tile[at], pitch), (*sums)[i]);
        }
    }
}

// Where a tile of sums goes.
struct Goal {
    row0: u32,      // position of its first row
    first: u32,     // element of the first row's head
    factor: f32,
    rotated: bool,  // whether the sums are gradients of what was rotated
}

// Gives the sums to the kernel's own `store_quad`. Each pair is named, since few compilers take apart a loop with
// barriers, and an index that they do not know would keep matrices out of registers.
fn store_sums(sums: ptr<function, HeadSums>, lane: u32, subgroup: u32, goal: Goal) {
    store_pair(sums, lane, subgroup, goal, 0u);
    if (MATRICES > 2u) { store_pair(sums, lane, subgroup, goal, 2u); }
    if (MATRICES > 4u) { store_pair(sums, lane, subgroup, goal, 4u); }
    if (MATRICES > 6u) { store_pair(sums, lane, subgroup, goal, 6u); }
    if (MATRICES > 8u) { store_pair(sums, lane, subgroup, goal, 8u % MOST_MATRICES); }
    if (MATRICES > 10u) { store_pair(sums, lane, subgroup, goal, 10u % MOST_MATRICES); }
    if (MATRICES > 12u) { store_pair(sums, lane, subgroup, goal, 12u % MOST_MATRICES); }
    if (MATRICES > 14u) { store_pair(sums, lane, subgroup, goal, 14u % MOST_MATRICES); }
}

fn store_pair(sums: ptr<function, HeadSums>, lane: u32, subgroup: u32, goal: Goal, i: u32) {
    // Every lane is done with what the tile of sums held before.
    workgroupBarrier();
    keep_pair(subgroup, (*sums)[i], (*sums)[i + 1u]);
    // The pair is whole.
    workgroupBarrier();
    for (var quad = lane; quad < ROWS * COLS / 4u; quad += LANES) {
        let line = quad / (COLS / 4u);
        let col = quad % (COLS / 4u) * 4u;
        let element = i * SIDE + col;
        if (goal.row0 + line < params.time && element < HEAD_DIM) {
            store_quad(goal, line, element, kept_quad(line, col));
        }
    }
}

// To nearest, ties to even, whichever way the adapter rounds; what is subnormal there may become zero.
fn rounded_half(value: f32) -> f16 {
    let bits = bitcast<u32>(value);
    let rounded = bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
    // From 65520 on the nearest is infinity; a NaN stays one.
    return f16(select(rounded, value * 3.0e38, (bits & 0x7fffffffu) >= 0x477ff000u));
}
