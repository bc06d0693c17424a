// output = A B for A [m, k] and B [k, n], either of which may lie transposed in memory.
// A workgroup computes a 64x64 tile, a lane 4x4 of it in registers, from slices of sixteen steps of
// k in workgroup memory: four times the workgroups of the large tiles, for outputs that would leave
// most of a GPU idle, at twice the reads of memory. While a slice is multiplied, the next is on its way to registers, and from
// there to the other half of the memory, so that a slice costs one barrier.
// With several splits of k, split z writes its own partial product.
// Joined with matmul_epilogue.wgsl, matmul_keep_words.wgsl, matmul_load_f32.wgsl, matmul_store_quad.wgsl.
// Joined with matmul_tiled_slices.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,    // a multiple of four, or k
    a_stride: u32,       // words from one row to the next, of the matrix as it lies in memory
    b_stride: u32,
    output_stride: u32,  // of what the epilogue reads as well
    second_stride: u32,
    time: u32,           // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,       // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;              // [m, k], or [k, m] if A_TRANSPOSED
@group(0) @binding(2) var<storage, read> b: array<f32>;              // [k, n], or [n, k] if B_TRANSPOSED
@group(0) @binding(3) var<storage, read> a_quads: array<vec4<f32>>;  // a again, four words an element
@group(0) @binding(4) var<storage, read> b_quads: array<vec4<f32>>;  // b again, four words an element
@group(0) @binding(5) var<storage, read> aside: array<f32>;          // what the epilogue reads, if anything
@group(0) @binding(6) var<storage, read_write> output: array<f32>;   // [m, n], or [splits, m, n]
@group(0) @binding(7) var<storage, read_write> second: array<f32>;   // what else it writes

override A_TRANSPOSED: bool = false;
override B_TRANSPOSED: bool = false;

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const SLICE: u32 = DEPTH * TILE;

var<workgroup> a_tile: array<f32, 2048>;  // [2, DEPTH, TILE]: columns of A
var<workgroup> b_tile: array<f32, 2048>;  // [2, DEPTH, TILE]: rows of B

// One step of k: the outer product of four rows and four columns. Written out, since not every
// compiler unrolls, and an array that is indexed at run time leaves the registers.
fn multiply(sums: ptr<function, array<vec4<f32>, 4>>, a_at: u32, b_at: u32) {
    let rows = vec4(a_tile[a_at], a_tile[a_at + 1u], a_tile[a_at + 2u], a_tile[a_at + 3u]);
    let cols = vec4(b_tile[b_at], b_tile[b_at + 1u], b_tile[b_at + 2u], b_tile[b_at + 3u]);
    (*sums)[0] = fma(vec4(rows.x), cols, (*sums)[0]);
    (*sums)[1] = fma(vec4(rows.y), cols, (*sums)[1]);
    (*sums)[2] = fma(vec4(rows.z), cols, (*sums)[2]);
    (*sums)[3] = fma(vec4(rows.w), cols, (*sums)[3]);
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
    var sums: array<vec4<f32>, 4>;  // [row of four]
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
    // Written out for the same reason as `multiply`.
    store_quad(group.z, row, col, sums[0]);
    store_quad(group.z, row + 1u, col, sums[1]);
    store_quad(group.z, row + 2u, col, sums[2]);
    store_quad(group.z, row + 3u, col, sums[3]);
}
