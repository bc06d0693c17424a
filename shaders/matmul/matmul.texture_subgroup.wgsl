// output = A B for A [m, k] and B [k, n]. A texel holds four columns of B; of A it holds four columns
// where A lies in memory as [m, k], and four rows where it lies as [k, m]. A subgroup of eight lanes computes 32 rows by 64 columns: each lane loads
// one quad of rows and hands it to the others, and keeps two quads of columns to itself.
// For drivers that run shaders on the CPU: there a texel costs as much as 18 broadcasts.
// The textures are padded with zeros to whole tiles, so the loop has no guards.
// Joined with matmul_epilogue.wgsl, matmul_tile.wgsl, subgroup_lanes.wgsl.
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
@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;  // [rows from first_row on, k], or transposed
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;  // [k, columns from first_col on]
@group(0) @binding(3) var<storage, read> aside: array<vec4<f32>>;        // what the epilogue reads, if anything
@group(0) @binding(4) var aside_texels: texture_storage_2d<rgba32float, read>;  // angles, or gate and up of the rows from first_row on
@group(0) @binding(5) var<storage, read_write> output: array<vec4<f32>>; // [splits, m, n]
@group(0) @binding(6) var<storage, read_write> second: array<vec4<f32>>; // what else the epilogue writes

override A_ROWS: bool = true;

const DEPTH: u32 = 2u;

// What a lane loads for two steps of k: four rows of A, and four columns of B twice, `far_quads` apart.
struct Loaded {
    a0: vec4<f32>,
    a1: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    c0: vec4<f32>,
    c1: vec4<f32>,
}

// Sums of 4 rows by two quads of columns.
struct Strip {
    s0: mat4x4<f32>,
    s1: mat4x4<f32>,
}

// Columns k and k + 1 of the rows of a quad, for an even k.
fn a_columns(a_quad: u32, k: u32) -> array<vec4<f32>, 2> {
    if (!A_ROWS) {
        return array(textureLoad(a, vec2(a_quad, k)), textureLoad(a, vec2(a_quad, k + 1u)));
    }
    let row = a_quad * 4u;
    let r0 = textureLoad(a, vec2(k / 4u, row));
    let r1 = textureLoad(a, vec2(k / 4u, row + 1u));
    let r2 = textureLoad(a, vec2(k / 4u, row + 2u));
    let r3 = textureLoad(a, vec2(k / 4u, row + 3u));
    // Half of each texel is for the next turn: two turns in one ran at half the speed.
    let later = k % 4u != 0u;
    return array(
        select(vec4(r0.x, r1.x, r2.x, r3.x), vec4(r0.z, r1.z, r2.z, r3.z), later),
        select(vec4(r0.y, r1.y, r2.y, r3.y), vec4(r0.w, r1.w, r2.w, r3.w), later),
    );
}

fn load(a_quad: u32, col_quad: u32, k: u32) -> Loaded {
    let a = a_columns(a_quad, k);
    return Loaded(
        a[0],
        a[1],
        textureLoad(b, vec2(col_quad, k)),
        textureLoad(b, vec2(col_quad, k + 1u)),
        textureLoad(b, vec2(col_quad + far_quads(), k)),
        textureLoad(b, vec2(col_quad + far_quads(), k + 1u)),
    );
}

// Adds the rows that `lane` has loaded times the columns of the calling lane.
fn add(sums: Strip, own: Loaded, lane: u32) -> Strip {
    let a0 = subgroupShuffle(own.a0, lane);
    let a1 = subgroupShuffle(own.a1, lane);
    // Both steps of k at once, so that a sum stays in a register for both.
    return Strip(
        add_outer(add_outer(sums.s0, a0, own.b0), a1, own.b1),
        add_outer(add_outer(sums.s1, a0, own.c0), a1, own.c1),
    );
}

// From a lane's first quad of columns to its second: from a gate to its up, where both make one product.
fn far_quads() -> u32 {
    return select(LANES, params.boundary / 4u, EPILOGUE == GATE);
}

// Written out: an array that a loop reads is a gather a time, and takes llvmpipe longer to compile too.
fn store_strip(split: u32, row: u32, col: u32, sums: Strip) {
    store_row(split, row, col, sums.s0[0], sums.s1[0]);
    store_row(split, row + 1u, col, sums.s0[1], sums.s1[1]);
    store_row(split, row + 2u, col, sums.s0[2], sums.s1[2]);
    store_row(split, row + 3u, col, sums.s0[3], sums.s1[3]);
}

fn store_row(split: u32, row: u32, col: u32, near: vec4<f32>, far: vec4<f32>) {
    if (EPILOGUE == GATE) {
        store_gated(row, col, near, far);
    } else {
        store_quad(split, row, col, near);
        store_quad(split, row, col + LANES * 4u, far);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row_quad = group.y * LANES;
    let col_quad = group.x * select(2u * LANES, LANES, EPILOGUE == GATE) + lane;
    let a_quad = row_quad + lane;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    var sums0 = Strip();
    var sums1 = Strip();
    var sums2 = Strip();
    var sums3 = Strip();
    var sums4 = Strip();
    var sums5 = Strip();
    var sums6 = Strip();
    var sums7 = Strip();
    for (var k = k_start; k < k_end; k += DEPTH) {
        let own = load(a_quad, col_quad, k);
        sums0 = add(sums0, own, 0u);
        sums1 = add(sums1, own, 1u);
        sums2 = add(sums2, own, 2u);
        sums3 = add(sums3, own, 3u);
        sums4 = add(sums4, own, 4u);
        sums5 = add(sums5, own, 5u);
        sums6 = add(sums6, own, 6u);
        sums7 = add(sums7, own, 7u);
    }
    let split = params.first_split + group.z;
    let row = params.first_row + row_quad * 4u;
    let col = params.first_col + col_quad * 4u;
    store_strip(split, row, col, sums0);
    store_strip(split, row + 4u, col, sums1);
    store_strip(split, row + 8u, col, sums2);
    store_strip(split, row + 12u, col, sums3);
    store_strip(split, row + 16u, col, sums4);
    store_strip(split, row + 20u, col, sums5);
    store_strip(split, row + 24u, col, sums6);
    store_strip(split, row + 28u, col, sums7);
}

// Stores four neighbouring outputs of a product, for rows of whole quads: one access to a quad takes
// drivers that run shaders on the CPU half the time of four. They run both sides of a branch, so each
// epilogue is a pipeline of its own.
override EPILOGUE: u32 = 0u;

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = ((split * params.m + row) * params.output_stride + col) / 4u;
    if (EPILOGUE == ACCUMULATE) {
        output[index] += sums;
    } else if (EPILOGUE == RESIDUAL) {
        output[index] = aside[index] + sums;
    } else if (EPILOGUE == ROTATE) {
        let at = vec2(col % params.head_dim / 4u, row % params.time);
        output[index] = select(sums, turned(sums, textureLoad(aside_texels, at)), col < params.boundary);
    } else if (EPILOGUE == GATE_BACKWARD) {
        let texel = vec2(col / 4u, row - params.first_row);
        let to_up = params.boundary / 4u;
        let gate = textureLoad(aside_texels, texel);
        output[index + to_up] = sums * silu(gate);
        output[index] = sums * textureLoad(aside_texels, texel + vec2(to_up, 0u)) * d_silu(gate);
    } else {
        output[index] = sums;
    }
}

fn store_gated(row: u32, col: u32, gate: vec4<f32>, up: vec4<f32>) {
    if (row >= params.m || col >= params.boundary) {
        return;
    }
    let index = (row * params.output_stride + col) / 4u;
    output[index] = gate;
    output[index + params.boundary / 4u] = up;
    second[(row * params.second_stride + col) / 4u] = silu(gate) * up;
}
