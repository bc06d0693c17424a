// output = A B for A [m, k] and B [k, n], both staged with k along y: a texel holds four rows of A
// or four columns of B. A lane computes 16x16 outputs, a workgroup 64 rows by 32 columns.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load, but
// still as dear as 50 multiply-adds, and registers that spill stay in the nearest cache.
// The textures are padded with zeros to whole tiles, so the loop has no guards.
// Joined with matmul_epilogue.wgsl, matmul_store.wgsl, matmul_tile.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    first_row: u32,
    first_col: u32,
    first_split: u32,
    output_stride: u32,
    second_stride: u32,
    epilogue: u32,
    time: u32,  // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,  // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;  // [k, rows from first_row on]
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;  // [k, columns from first_col on]
@group(0) @binding(3) var<storage, read> aside: array<f32>;        // what the epilogue reads, if anything
@group(0) @binding(4) var<storage, read_write> output: array<f32>; // [splits, m, n]
@group(0) @binding(5) var<storage, read_write> second: array<f32>; // what else the epilogue writes

const LANES: u32 = 8u;
const LANE_COLS: u32 = 2u;
const ROW_QUADS: u32 = 4u;
const COL_QUADS: u32 = 4u;
const DEPTH: u32 = 2u;

// Values, not arrays that a loop indexes: Mesa leaves such an array in memory where the loop that
// indexes it is too long to unroll, and every access to it is then a gather.
struct Quads {
    q0: vec4<f32>,
    q1: vec4<f32>,
    q2: vec4<f32>,
    q3: vec4<f32>,
}

// Sums of 4 rows by 16 columns.
struct Strip {
    s0: mat4x4<f32>,
    s1: mat4x4<f32>,
    s2: mat4x4<f32>,
    s3: mat4x4<f32>,
}

// Quads of columns `col_quad` and its neighbour, and both `far` behind: from a gate to its up, where both make
// one product.
fn b_quads(col_quad: u32, far: u32, k: u32) -> Quads {
    return Quads(
        textureLoad(b, vec2(col_quad, k)),
        textureLoad(b, vec2(col_quad + 1u, k)),
        textureLoad(b, vec2(col_quad + far, k)),
        textureLoad(b, vec2(col_quad + far + 1u, k)),
    );
}

fn add(sums: Strip, a_quad: u32, k: u32, b0: Quads, b1: Quads) -> Strip {
    let a0 = textureLoad(a, vec2(a_quad, k));
    let a1 = textureLoad(a, vec2(a_quad, k + 1u));
    // Both steps of k at once, so that a sum stays in a register for both.
    return Strip(
        add_outer(add_outer(sums.s0, a0, b0.q0), a1, b1.q0),
        add_outer(add_outer(sums.s1, a0, b0.q1), a1, b1.q1),
        add_outer(add_outer(sums.s2, a0, b0.q2), a1, b1.q2),
        add_outer(add_outer(sums.s3, a0, b0.q3), a1, b1.q3),
    );
}

// Puts sums into memory, from where one loop stores them all: stores that are written out take
// llvmpipe half a minute to compile.
fn keep(tiles: ptr<function, array<vec4<f32>, 64>>, at: u32, sums: mat4x4<f32>) {
    (*tiles)[at] = sums[0];
    (*tiles)[at + 1u] = sums[1];
    (*tiles)[at + 2u] = sums[2];
    (*tiles)[at + 3u] = sums[3];
}

fn keep_strip(tiles: ptr<function, array<vec4<f32>, 64>>, at: u32, sums: Strip) {
    keep(tiles, at, sums.s0);
    keep(tiles, at + 16u, sums.s1);
    keep(tiles, at + 32u, sums.s2);
    keep(tiles, at + 48u, sums.s3);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row_quad = (group.y * (LANES / LANE_COLS) + local.x / LANE_COLS) * ROW_QUADS;
    let is_gate = epilogue() == GATE;
    let col_quad = (group.x * LANE_COLS + local.x % LANE_COLS) * select(COL_QUADS, COL_QUADS / 2u, is_gate);
    let far = select(COL_QUADS / 2u, params.boundary / 4u, is_gate);
    let a_quad = row_quad;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    var sums0 = Strip();
    var sums1 = Strip();
    var sums2 = Strip();
    var sums3 = Strip();
    for (var k = k_start; k < k_end; k += DEPTH) {
        let b0 = b_quads(col_quad, far, k);
        let b1 = b_quads(col_quad, far, k + 1u);
        sums0 = add(sums0, a_quad, k, b0, b1);
        sums1 = add(sums1, a_quad + 1u, k, b0, b1);
        sums2 = add(sums2, a_quad + 2u, k, b0, b1);
        sums3 = add(sums3, a_quad + 3u, k, b0, b1);
    }
    // [column quads, rows]
    var tiles: array<vec4<f32>, 64>;
    keep_strip(&tiles, 0u, sums0);
    keep_strip(&tiles, 4u, sums1);
    keep_strip(&tiles, 8u, sums2);
    keep_strip(&tiles, 12u, sums3);
    let row = params.first_row + row_quad * 4u;
    let col = params.first_col + col_quad * 4u;
    // Compilers do not know its end, and so do not write it out.
    for (var i = 0u; i < min(16u, params.m - min(row, params.m)); i++) {
        for (var quad = 0u; is_gate && quad < COL_QUADS / 2u; quad++) {
            store_gated(row + i, col + quad * 4u, tiles[quad * 16u + i], tiles[quad * 16u + 32u + i]);
        }
        for (var quad = 0u; !is_gate && quad < COL_QUADS; quad++) {
            let split = params.first_split + group.z;
            store_quad(split, row + i, col + quad * 4u, tiles[quad * 16u + i]);
        }
    }
}

// Four columns of a gate and those of its up, which are whole quads of a row.
fn store_gated(row: u32, col: u32, gate: vec4<f32>, up: vec4<f32>) {
    if (col >= params.boundary) {
        return;
    }
    let index = row * params.output_stride + col;
    let hidden = silu(gate) * up;
    for (var c = 0u; c < 4u; c++) {
        output[index + c] = gate[c];
        output[index + params.boundary + c] = up[c];
        second[row * params.second_stride + col + c] = hidden[c];
    }
}
