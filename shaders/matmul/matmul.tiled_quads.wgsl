// output = A B for A [m, k] and B [k, n], either of which may lie transposed in memory.
// A workgroup computes a 128x128 tile, a lane 8x8 of it in registers, from slices of sixteen steps of
// k that lie in workgroup memory as quads, in the direction in which they came: nothing is turned on
// its way there, and a load brings four words. While a slice is multiplied, the next is on its way to
// registers, and from there to the other half of the memory, so that a slice costs one barrier.
// With several splits of k, split z writes its own partial product.
// Joined with matmul_epilogue.wgsl, matmul_outer.wgsl, matmul_tiled_slices.wgsl.
// Joined with matmul_load_f32.wgsl or matmul_load_f16.wgsl.
// Joined with matmul_store_quad.wgsl or matmul_store_f16.wgsl.
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
const DEPTH: u32 = 16u;
const SLICE: u32 = TILE * DEPTH / 4u;  // quads of an operand
const STEP_QUADS: u32 = TILE / 4u;     // of a step, where quads run along lines
const LINE_QUADS: u32 = DEPTH / 4u;    // of a line, where they run along k
const BLOCK: u32 = 16u * LINE_QUADS;   // every fourth column of half a tile

var<workgroup> a_tile: array<vec4<f32>, 1024>;  // [2, row, step / 4], or [2, step, row / 4] if A_TRANSPOSED
var<workgroup> b_tile: array<vec4<f32>, 1024>;  // [2, column, step / 4] if B_TRANSPOSED, or [2, step, column / 4]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = lane % 16u;
    let y = lane / 16u;
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    let is_inner = row0 + TILE <= params.m && col0 + TILE <= params.n;
    // A lane brings two quads of each operand.
    let a_near = share_of(lane, A_TRANSPOSED);
    let b_near = share_of(lane, !B_TRANSPOSED);
    let a_far = far_share(a_near, A_TRANSPOSED);
    let b_far = far_share(b_near, !B_TRANSPOSED);
    let a_gap = select(TILE / 2u * params.a_stride, DEPTH / 2u * params.a_stride, A_TRANSPOSED);
    let b_half = select(TILE / 2u, TILE / 4u, EPILOGUE == GATE);
    let b_gap = select(DEPTH / 2u, b_half, B_TRANSPOSED) * params.b_stride;
    var a_at = place_a(a_near, row0, k_start);
    var b_at = place_b(b_near, col0, k_start, EPILOGUE == GATE);
    let a_advance = select(DEPTH, DEPTH * params.a_stride, A_TRANSPOSED);
    let b_advance = select(DEPTH * params.b_stride, DEPTH, B_TRANSPOSED);
    var sums: array<vec4<f32>, 16>;  // [column half, row of eight]
    var a0: vec4<f32>;
    var a1: vec4<f32>;
    var b0: vec4<f32>;
    var b1: vec4<f32>;
    var turn = 0u;
    for (var k0 = k_start; ; k0 += DEPTH) {
        if (k0 < k_end) {
            // Slices in the middle of the matrices are read without guards.
            if (is_inner && k0 + DEPTH <= k_end) {
                a0 = load_a(a_at, 4u);
                a1 = load_a(a_at + a_gap, 4u);
                b0 = load_b(b_at, 4u);
                b1 = load_b(b_at + b_gap, 4u);
            } else {
                a0 = load_a(a_at, inside(a_near, row0, params.m, k0, k_end, A_TRANSPOSED));
                a1 = load_a(a_at + a_gap, inside(a_far, row0, params.m, k0, k_end, A_TRANSPOSED));
                b0 = load_b(b_at, inside(b_near, col0, params.n, k0, k_end, !B_TRANSPOSED));
                b1 = load_b(b_at + b_gap, inside(b_far, col0, params.n, k0, k_end, !B_TRANSPOSED));
            }
            a_at += a_advance;
            b_at += b_advance;
        }
        if (k0 > k_start) {
            let last = (turn ^ 1u) * SLICE;
            // The last slice is as deep as k is long, and zeros fill its last quads; the unknown end keeps
            // compilers from unrolling further, which would only fill the instruction cache.
            let quads = (min(DEPTH, k_end - (k0 - DEPTH)) + 3u) / 4u;
            for (var quad = 0u; quad < quads; quad++) {
                if (A_TRANSPOSED) {
                    let at = last + quad * 4u * STEP_QUADS;
                    add_step(&sums, at + y, at + x);
                    add_step(&sums, at + STEP_QUADS + y, at + STEP_QUADS + x);
                    add_step(&sums, at + 2u * STEP_QUADS + y, at + 2u * STEP_QUADS + x);
                    add_step(&sums, at + 3u * STEP_QUADS + y, at + 3u * STEP_QUADS + x);
                } else {
                    add_rows(&sums, last, quad, x, y);
                }
            }
        }
        if (k0 >= k_end) {
            break;
        }
        keep_a(turn * SLICE, a_near, a0);
        keep_a(turn * SLICE, a_far, a1);
        keep_b(turn * SLICE, b_near, b0);
        keep_b(turn * SLICE, b_far, b1);
        turn ^= 1u;
        // The next slice is whole, and every lane is done with the half that held the last one.
        workgroupBarrier();
    }
    let col = col0 + x * 4u;
    store_row(group.z, row0 + row_of(y, 0u), col, sums[0], sums[8]);
    store_row(group.z, row0 + row_of(y, 1u), col, sums[1], sums[9]);
    store_row(group.z, row0 + row_of(y, 2u), col, sums[2], sums[10]);
    store_row(group.z, row0 + row_of(y, 3u), col, sums[3], sums[11]);
    store_row(group.z, row0 + row_of(y, 4u), col, sums[4], sums[12]);
    store_row(group.z, row0 + row_of(y, 5u), col, sums[5], sums[13]);
    store_row(group.z, row0 + row_of(y, 6u), col, sums[6], sums[14]);
    store_row(group.z, row0 + row_of(y, 7u), col, sums[7], sums[15]);
}

// Row of the tile that is the lanes' `number`th.
fn row_of(y: u32, number: u32) -> u32 {
    return select(y + 16u * number, y * 4u + number % 4u + TILE / 2u * (number / 4u), A_TRANSPOSED);
}

fn store_row(split: u32, row: u32, col: u32, near: vec4<f32>, far: vec4<f32>) {
    store_quad(split, row, col, near);
    store_quad(split, row, col + TILE / 2u, far);
}

// The second quad that a lane brings: half a slice after the first.
fn far_share(near: Share, along_lines: bool) -> Share {
    if (along_lines) {
        return Share(near.line, near.step + DEPTH / 2u);
    }
    return Share(near.line + TILE / 2u, near.step);
}

// One step of k, where quads of A run along rows.
fn add_step(sums: ptr<function, array<vec4<f32>, 16>>, a_at: u32, b_at: u32) {
    let a_far = a_at + STEP_QUADS / 2u;
    let b_far = b_at + STEP_QUADS / 2u;
    add_outer_8x8(sums, a_tile[a_at], a_tile[a_far], b_tile[b_at], b_tile[b_far]);
}

// Four steps of k, where quads of A run along k. All of B's are read first and then row by row of A, so
// that few registers are taken at a time.
fn add_rows(sums: ptr<function, array<vec4<f32>, 16>>, slice: u32, quad: u32, x: u32, y: u32) {
    var near: mat4x4<f32>;  // [step][column of four]
    var far: mat4x4<f32>;
    if (B_TRANSPOSED) {
        near = transpose(b_columns(slice, x, quad));
        far = transpose(b_columns(slice + SLICE / 2u, x, quad));
    } else {
        let at = slice + quad * 4u * STEP_QUADS + x;
        near = b_quads_from(at, STEP_QUADS);
        far = b_quads_from(at + STEP_QUADS / 2u, STEP_QUADS);
    }
    let at = slice + y * LINE_QUADS + quad;
    let a0 = a_tile[at + 0u * BLOCK];
    (*sums)[0] = add_quad((*sums)[0], a0, near);
    (*sums)[8] = add_quad((*sums)[8], a0, far);
    let a1 = a_tile[at + 1u * BLOCK];
    (*sums)[1] = add_quad((*sums)[1], a1, near);
    (*sums)[9] = add_quad((*sums)[9], a1, far);
    let a2 = a_tile[at + 2u * BLOCK];
    (*sums)[2] = add_quad((*sums)[2], a2, near);
    (*sums)[10] = add_quad((*sums)[10], a2, far);
    let a3 = a_tile[at + 3u * BLOCK];
    (*sums)[3] = add_quad((*sums)[3], a3, near);
    (*sums)[11] = add_quad((*sums)[11], a3, far);
    let a4 = a_tile[at + 4u * BLOCK];
    (*sums)[4] = add_quad((*sums)[4], a4, near);
    (*sums)[12] = add_quad((*sums)[12], a4, far);
    let a5 = a_tile[at + 5u * BLOCK];
    (*sums)[5] = add_quad((*sums)[5], a5, near);
    (*sums)[13] = add_quad((*sums)[13], a5, far);
    let a6 = a_tile[at + 6u * BLOCK];
    (*sums)[6] = add_quad((*sums)[6], a6, near);
    (*sums)[14] = add_quad((*sums)[14], a6, far);
    let a7 = a_tile[at + 7u * BLOCK];
    (*sums)[7] = add_quad((*sums)[7], a7, near);
    (*sums)[15] = add_quad((*sums)[15], a7, far);
}

// Four steps of a row and a quad of columns.
fn add_quad(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    let first_two = fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum));
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], first_two));
}

fn b_quads_from(at: u32, gap: u32) -> mat4x4<f32> {
    return mat4x4(b_tile[at], b_tile[at + gap], b_tile[at + 2u * gap], b_tile[at + 3u * gap]);
}

// Four neighbouring columns of a half tile.
fn b_columns(first: u32, x: u32, quad: u32) -> mat4x4<f32> {
    let even = first + b_place(x, 0u, quad);
    let odd = first + b_place(x, 1u, quad);
    return mat4x4(b_tile[even], b_tile[odd], b_tile[even + 2u * BLOCK], b_tile[odd + 2u * BLOCK]);
}

// Where a half tile holds column 4 x + c of B if quads run along k: blocks by c, so that lanes read
// neighbours. Banks are shared by quads eight apart. The quads of a line change places with x, so that
// eight lanes which read one of theirs each use all banks, and lines change places with c, so that
// eight lanes which write two columns do.
fn b_place(x: u32, c: u32, quad: u32) -> u32 {
    let line = x ^ (c & 1u);
    return c * BLOCK + line * LINE_QUADS + (quad ^ ((line / 2u) & 3u));
}

fn keep_a(slice: u32, share: Share, quad: vec4<f32>) {
    let by_step = share.step * STEP_QUADS + share.line / 4u;
    let by_line = share.line * LINE_QUADS + share.step / 4u;
    a_tile[slice + select(by_line, by_step, A_TRANSPOSED)] = quad;
}

fn keep_b(slice: u32, share: Share, quad: vec4<f32>) {
    let by_step = share.step * STEP_QUADS + share.line / 4u;
    let column = share.line % 64u;
    let by_line = share.line / 64u * (SLICE / 2u) + b_place(column / 4u, column % 4u, share.step / 4u);
    b_tile[slice + select(by_step, by_line, B_TRANSPOSED)] = quad;
}
