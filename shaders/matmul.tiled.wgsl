// output = A B for A [m, k] and B [k, n], either of which may lie transposed in memory.
// A workgroup computes a 64x64 tile from 16-deep slices in workgroup memory, 8x8 outputs a lane.
// With several splits of k, split z writes its own partial product.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    a_stride: u32,
    b_stride: u32,
    output_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;             // [m, k], or [k, m] if A_TRANSPOSED
@group(0) @binding(2) var<storage, read> b: array<f32>;             // [k, n], or [n, k] if B_TRANSPOSED
@group(0) @binding(3) var<storage, read> residual: array<f32>;      // [m, n] if RESIDUAL, else unused
@group(0) @binding(4) var<storage, read_write> output: array<f32>;  // [splits, m, n]

override A_TRANSPOSED: bool = false;
override B_TRANSPOSED: bool = false;
override ACCUMULATE: bool = false;
override RESIDUAL: bool = false;

const TILE: u32 = 64u;
const QUADS: u32 = TILE / 4u;
const DEPTH: u32 = 16u;

var<workgroup> a_tile: array<vec4<f32>, 256>;  // [DEPTH, QUADS]: column kk of A, four rows a quad
var<workgroup> b_tile: array<vec4<f32>, 256>;  // [DEPTH, QUADS]: row kk of B, four columns a quad

fn a_at(row: u32, kk: u32, k_end: u32) -> f32 {
    if (row >= params.m || kk >= k_end) {
        return 0.0;
    }
    return a[select(row * params.a_stride + kk, kk * params.a_stride + row, A_TRANSPOSED)];
}

fn b_at(kk: u32, col: u32, k_end: u32) -> f32 {
    if (col >= params.n || kk >= k_end) {
        return 0.0;
    }
    return b[select(kk * params.b_stride + col, col * params.b_stride + kk, B_TRANSPOSED)];
}

// Lanes walk along the axis that is contiguous in memory.
fn load_tiles(lane: u32, row0: u32, col0: u32, k0: u32, k_end: u32) {
    for (var slot = lane; slot < DEPTH * QUADS; slot += 64u) {
        let a_kk = select(slot / QUADS, slot % DEPTH, !A_TRANSPOSED);
        let a_quad = select(slot % QUADS, slot / DEPTH, !A_TRANSPOSED);
        let row = row0 + a_quad * 4u;
        a_tile[a_kk * QUADS + a_quad] = vec4(
            a_at(row, k0 + a_kk, k_end),
            a_at(row + 1u, k0 + a_kk, k_end),
            a_at(row + 2u, k0 + a_kk, k_end),
            a_at(row + 3u, k0 + a_kk, k_end),
        );
        let b_kk = select(slot / QUADS, slot % DEPTH, B_TRANSPOSED);
        let b_quad = select(slot % QUADS, slot / DEPTH, B_TRANSPOSED);
        let col = col0 + b_quad * 4u;
        b_tile[b_kk * QUADS + b_quad] = vec4(
            b_at(k0 + b_kk, col, k_end),
            b_at(k0 + b_kk, col + 1u, k_end),
            b_at(k0 + b_kk, col + 2u, k_end),
            b_at(k0 + b_kk, col + 3u, k_end),
        );
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    var low: array<vec4<f32>, 8>;   // rows of this lane, first four columns
    var high: array<vec4<f32>, 8>;  // rows of this lane, last four columns
    for (var k0 = k_start; k0 < k_end; k0 += DEPTH) {
        // Every lane is done with the slices of the round before.
        workgroupBarrier();
        load_tiles(lane, row0, col0, k0, k_end);
        // The slices are whole.
        workgroupBarrier();
        for (var kk = 0u; kk < DEPTH; kk++) {
            let a0 = a_tile[kk * QUADS + local.y * 2u];
            let a1 = a_tile[kk * QUADS + local.y * 2u + 1u];
            let b0 = b_tile[kk * QUADS + local.x * 2u];
            let b1 = b_tile[kk * QUADS + local.x * 2u + 1u];
            for (var i = 0u; i < 4u; i++) {
                low[i] = fma(vec4(a0[i]), b0, low[i]);
                high[i] = fma(vec4(a0[i]), b1, high[i]);
                low[i + 4u] = fma(vec4(a1[i]), b0, low[i + 4u]);
                high[i + 4u] = fma(vec4(a1[i]), b1, high[i + 4u]);
            }
        }
    }
    for (var i = 0u; i < 8u; i++) {
        let row = row0 + local.y * 8u + i;
        let col = col0 + local.x * 8u;
        for (var j = 0u; j < 4u; j++) {
            store(group.z, row, col + j, low[i][j]);
            store(group.z, row, col + 4u + j, high[i][j]);
        }
    }
}
