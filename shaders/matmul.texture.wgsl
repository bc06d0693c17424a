// output = A B for A [m, k] and B [k, n], both staged with k along y: a texel holds four rows of A
// or four columns of B. A lane computes 8x8 outputs, a workgroup 64 rows by 8 columns.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load.
// The textures are padded with zeros to whole tiles, so the loop has no guards.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,
    first_row: u32,
    first_col: u32,
    first_split: u32,
    output_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;  // [k, rows from first_row on]
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;  // [k, columns from first_col on]
@group(0) @binding(3) var<storage, read> residual: array<f32>;       // [m, n] if RESIDUAL, else unused
@group(0) @binding(4) var<storage, read_write> output: array<f32>;   // [splits, m, n]

override ACCUMULATE: bool = false;
override RESIDUAL: bool = false;

const LANES: u32 = 8u;
const ROW_QUADS: u32 = 2u;
const COL_QUADS: u32 = 2u;
const ROWS: u32 = ROW_QUADS * 4u;
const DEPTH: u32 = 4u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row_quad = (group.y * LANES + local.x) * ROW_QUADS;
    let col_quad = group.x * COL_QUADS;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    var sums: array<array<vec4<f32>, COL_QUADS>, ROWS>;
    for (var k = k_start; k < k_end; k += DEPTH) {
        var a_quads: array<array<vec4<f32>, ROW_QUADS>, DEPTH>;
        var b_quads: array<array<vec4<f32>, COL_QUADS>, DEPTH>;
        for (var kk = 0u; kk < DEPTH; kk++) {
            for (var q = 0u; q < ROW_QUADS; q++) {
                a_quads[kk][q] = textureLoad(a, vec2(row_quad + q, k + kk));
            }
            for (var q = 0u; q < COL_QUADS; q++) {
                b_quads[kk][q] = textureLoad(b, vec2(col_quad + q, k + kk));
            }
        }
        // The depth is innermost, so that a sum stays in a register for all of it.
        for (var i = 0u; i < ROWS; i++) {
            for (var j = 0u; j < COL_QUADS; j++) {
                for (var kk = 0u; kk < DEPTH; kk++) {
                    sums[i][j] = fma(vec4(a_quads[kk][i / 4u][i % 4u]), b_quads[kk][j], sums[i][j]);
                }
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        let row = params.first_row + row_quad * 4u + i;
        for (var j = 0u; j < COL_QUADS; j++) {
            let col = params.first_col + (col_quad + j) * 4u;
            for (var c = 0u; c < 4u; c++) {
                store(params.first_split + group.z, row, col + c, sums[i][j][c]);
            }
        }
    }
}
