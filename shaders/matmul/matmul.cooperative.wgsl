// output = A B for A [m, k] and B [k, n] of 2-byte floats, either of which may lie transposed in memory,
// by cooperative matrices: the matrix units' products of SIDE x SIDE, whose sums are f32.
// Of a tile of 8 SIDE rows and columns each of four subgroups computes a quarter, sixteen matrices in
// registers. While a slice of 2 SIDE steps of k is multiplied the next one is on its way to registers.
// Workgroup memory is one array of single floats for each operand: on an H100 quads of them take a quarter
// longer, and two halves of the memory twice as long.
// With several splits of k, split z writes its own partial product.
// Joined with cooperative_16.wgsl or cooperative_8.wgsl, matmul_slices_f16.wgsl.
// Joined with matmul_store_f16.wgsl, matmul_store_pair.wgsl.
enable f16;
enable wgpu_cooperative_matrix;

struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,    // a multiple of eight, or k
    a_stride: u32,       // elements from one row to the next, of the matrix as it lies in memory
    b_stride: u32,
    output_stride: u32,  // of what the epilogue reads as well
    second_stride: u32,
    time: u32,           // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,       // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f16>>;           // [m, k], or [k, m] if A_TRANSPOSED
@group(0) @binding(2) var<storage, read> b: array<vec4<f16>>;           // [k, n], or [n, k] if B_TRANSPOSED
@group(0) @binding(3) var<storage, read> aside: array<Stored>;          // what the epilogue reads, if anything
@group(0) @binding(4) var<storage, read_write> output: array<Stored>;   // [m, n], or [splits, m, n]
@group(0) @binding(5) var<storage, read_write> second: array<Stored>;   // what else it writes

override A_TRANSPOSED: bool = false;
override B_TRANSPOSED: bool = false;

override LANES: u32 = 128u;  // four subgroups at least
const PART: u32 = 4u * SIDE;  // of a subgroup
const TILE: u32 = 2u * PART;
const DEPTH: u32 = 2u * SIDE;
// Of a row of the workgroup's memory, so that lanes meet different banks.
const LINE_PITCH: u32 = DEPTH + 8u;
const STEP_PITCH: u32 = TILE + 8u;

var<workgroup> a_tile: array<f16, TILE * LINE_PITCH>;  // [row, step], or [step, row] if A_TRANSPOSED
var<workgroup> b_tile: array<f16, TILE * LINE_PITCH>;  // [step, column], or [column, step] if B_TRANSPOSED

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    let part_row = subgroup / 2u % 2u * PART;
    let part_col = subgroup % 2u * PART;
    var c00: Sums;
    var c01: Sums;
    var c02: Sums;
    var c03: Sums;
    var c10: Sums;
    var c11: Sums;
    var c12: Sums;
    var c13: Sums;
    var c20: Sums;
    var c21: Sums;
    var c22: Sums;
    var c23: Sums;
    var c30: Sums;
    var c31: Sums;
    var c32: Sums;
    var c33: Sums;
    // By statements: Mesa's AMD compiler takes a matrix's first value from where nothing was written.
    c00 = Sums();
    c01 = Sums();
    c02 = Sums();
    c03 = Sums();
    c10 = Sums();
    c11 = Sums();
    c12 = Sums();
    c13 = Sums();
    c20 = Sums();
    c21 = Sums();
    c22 = Sums();
    c23 = Sums();
    c30 = Sums();
    c31 = Sums();
    c32 = Sums();
    c33 = Sums();
    var next_a = fetch_a(lane, row0, k_start, k_end);
    var next_b = fetch_b(lane, col0, k_start, k_end);
    for (var k0 = k_start; k0 < k_end; k0 += DEPTH) {
        // Every subgroup is done with the slice before.
        workgroupBarrier();
        keep_a(lane, next_a);
        keep_b(lane, next_b);
        // The slice is whole.
        workgroupBarrier();
        if (k0 + DEPTH < k_end) {
            next_a = fetch_a(lane, row0, k0 + DEPTH, k_end);
            next_b = fetch_b(lane, col0, k0 + DEPTH, k_end);
        }
        for (var step = 0u; step < DEPTH; step += SIDE) {
            let a0 = matrix_a(part_row, step);
            let a1 = matrix_a(part_row + SIDE, step);
            let a2 = matrix_a(part_row + 2u * SIDE, step);
            let a3 = matrix_a(part_row + 3u * SIDE, step);
            let b0 = matrix_b(part_col, step);
            let b1 = matrix_b(part_col + SIDE, step);
            let b2 = matrix_b(part_col + 2u * SIDE, step);
            let b3 = matrix_b(part_col + 3u * SIDE, step);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c02 = coopMultiplyAdd(a0, b2, c02);
            c03 = coopMultiplyAdd(a0, b3, c03);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            c12 = coopMultiplyAdd(a1, b2, c12);
            c13 = coopMultiplyAdd(a1, b3, c13);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c21 = coopMultiplyAdd(a2, b1, c21);
            c22 = coopMultiplyAdd(a2, b2, c22);
            c23 = coopMultiplyAdd(a2, b3, c23);
            c30 = coopMultiplyAdd(a3, b0, c30);
            c31 = coopMultiplyAdd(a3, b1, c31);
            c32 = coopMultiplyAdd(a3, b2, c32);
            c33 = coopMultiplyAdd(a3, b3, c33);
        }
    }
    let place = Place(group.z, row0, col0, lane, min(subgroup, 4u));
    store_pair(place, c00, c01, 0u, 0u);
    store_pair(place, c02, c03, 0u, 2u);
    store_pair(place, c10, c11, 1u, 0u);
    store_pair(place, c12, c13, 1u, 2u);
    store_pair(place, c20, c21, 2u, 0u);
    store_pair(place, c22, c23, 2u, 2u);
    store_pair(place, c30, c31, 3u, 0u);
    store_pair(place, c32, c33, 3u, 2u);
}
