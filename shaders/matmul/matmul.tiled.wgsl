// output = A B for A [m, k] and B [k, n], either of which may lie transposed in memory.
// A workgroup computes a 128x128 tile, a lane 8x8 of it in registers, from slices of eight steps of
// k in workgroup memory. While a slice is multiplied, the next is on its way to registers, and from
// there to the other half of the memory, so that a slice costs one barrier.
// With several splits of k, split z writes its own partial product.
// Joined with matmul_epilogue.wgsl, matmul_keep_words.wgsl, matmul_outer.wgsl.
// Joined with matmul_load_f32.wgsl or matmul_load_f16.wgsl.
// Joined with matmul_store_quad.wgsl or matmul_store_f16.wgsl.
// Joined with matmul_tiled_slices.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,    // a multiple of four, or k
    a_stride: u32,       // elements from one row to the next, of the matrix as it lies in memory
    b_stride: u32,
    output_stride: u32,  // of what the epilogue reads as well
    second_stride: u32,
    time: u32,           // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,       // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Word>;             // [m, k], or [k, m] if A_TRANSPOSED
@group(0) @binding(2) var<storage, read> b: array<Word>;             // [k, n], or [n, k] if B_TRANSPOSED
@group(0) @binding(3) var<storage, read> a_quads: array<Quad>;       // a again, four elements at once
@group(0) @binding(4) var<storage, read> b_quads: array<Quad>;       // b again, four elements at once
@group(0) @binding(5) var<storage, read> aside: array<Stored>;       // what the epilogue reads, if anything
@group(0) @binding(6) var<storage, read_write> output: array<Stored>;  // [m, n], or [splits, m, n]
@group(0) @binding(7) var<storage, read_write> second: array<Stored>;  // what else it writes

override A_TRANSPOSED: bool = false;
override B_TRANSPOSED: bool = false;

const TILE: u32 = 128u;
const HALF: u32 = 64u;  // a lane has four rows and four columns in each half of the tile
const DEPTH: u32 = 8u;
const SLICE: u32 = DEPTH * TILE;

var<workgroup> a_tile: array<f32, 2048>;  // [2, DEPTH, TILE]: columns of A
var<workgroup> b_tile: array<f32, 2048>;  // [2, DEPTH, TILE]: rows of B

// One step of k.
fn multiply(sums: ptr<function, array<vec4<f32>, 16>>, a_at: u32, b_at: u32) {
    let a0 = vec4(a_tile[a_at], a_tile[a_at + 1u], a_tile[a_at + 2u], a_tile[a_at + 3u]);
    let b0 = vec4(b_tile[b_at], b_tile[b_at + 1u], b_tile[b_at + 2u], b_tile[b_at + 3u]);
    let a_far = a_at + HALF;
    let b_far = b_at + HALF;
    let a1 = vec4(a_tile[a_far], a_tile[a_far + 1u], a_tile[a_far + 2u], a_tile[a_far + 3u]);
    let b1 = vec4(b_tile[b_far], b_tile[b_far + 1u], b_tile[b_far + 2u], b_tile[b_far + 3u]);
    add_outer_8x8(sums, a0, a1, b0, b1);
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    let is_inner = row0 + TILE <= params.m && col0 + TILE <= params.n;
    let a_share = share_of(lane, A_TRANSPOSED);
    let b_share = share_of(lane, !B_TRANSPOSED);
    var a_at = place_a(a_share, row0, k_start);
    var b_at = place_b(b_share, col0, k_start, EPILOGUE == GATE);
    let a_advance = select(DEPTH, DEPTH * params.a_stride, A_TRANSPOSED);
    let b_advance = select(DEPTH * params.b_stride, DEPTH, B_TRANSPOSED);
    var sums: array<vec4<f32>, 16>;  // [column half, row half, row of four]
    var a_next: vec4<f32>;
    var b_next: vec4<f32>;
    var turn = 0u;
    for (var k0 = k_start; ; k0 += DEPTH) {
        if (k0 < k_end) {
            // Slices in the middle of the matrices are read without guards.
            var a_count = 4u;
            var b_count = 4u;
            if (!is_inner || k0 + DEPTH > k_end) {
                a_count = inside(a_share, row0, params.m, k0, k_end, A_TRANSPOSED);
                b_count = inside(b_share, col0, params.n, k0, k_end, !B_TRANSPOSED);
            }
            a_next = load_a(a_at, a_count);
            b_next = load_b(b_at, b_count);
            a_at += a_advance;
            b_at += b_advance;
        }
        if (k0 > k_start) {
            // The last slice is as deep as k is long; the unknown end keeps compilers from
            // unrolling further, which would only fill the instruction cache (docs/kernels-amd.md).
            let depth = min(DEPTH, k_end - (k0 - DEPTH));
            for (var kk = 0u; kk < depth; kk += 2u) {
                // Counted in quads, so that compilers see that four words are one aligned load.
                let from_quad = (turn ^ 1u) * (SLICE / 4u) + kk * (TILE / 4u);
                let a_from = (from_quad + local.y) * 4u;
                let b_from = (from_quad + local.x) * 4u;
                multiply(&sums, a_from, b_from);
                multiply(&sums, a_from + TILE, b_from + TILE);
            }
        }
        if (k0 >= k_end) {
            break;
        }
        keep_a(turn * SLICE, a_share, a_next);
        keep_b(turn * SLICE, b_share, b_next);
        turn ^= 1u;
        // The next slice is whole, and every lane is done with the half that held the last one.
        workgroupBarrier();
    }
    let row = row0 + local.y * 4u;
    let col = col0 + local.x * 4u;
    store_rows(group.z, row, col, sums[0], sums[1], sums[2], sums[3]);
    store_rows(group.z, row + HALF, col, sums[4], sums[5], sums[6], sums[7]);
    store_rows(group.z, row, col + HALF, sums[8], sums[9], sums[10], sums[11]);
    store_rows(group.z, row + HALF, col + HALF, sums[12], sums[13], sums[14], sums[15]);
}

// Written out for the same reason as `multiply`.
fn store_rows(
    split: u32,
    row: u32,
    col: u32,
    s0: vec4<f32>,
    s1: vec4<f32>,
    s2: vec4<f32>,
    s3: vec4<f32>,
) {
    store_quad(split, row, col, s0);
    store_quad(split, row + 1u, col, s1);
    store_quad(split, row + 2u, col, s2);
    store_quad(split, row + 3u, col, s3);
}
