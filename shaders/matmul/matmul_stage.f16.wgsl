// Copies a window of a matrix of 2-byte floats into a texture, as matmul_stage.wgsl
// does with words.
// Joined with unpacked_halves.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    first: u32,       // a multiple of four, as is row_stride
    row_stride: u32,
    col_stride: u32,  // one
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;           // [rows, cols] at `first`, four halves each
@group(0) @binding(2) var staged: texture_storage_2d<rgba32float, write>;   // [rows, cols], padded to whole workgroups

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// Columns col..col+3 of a row. Loads outside of the window go to its edge and are masked.
fn quad_at(row: u32, col: u32) -> vec4<f32> {
    let cols = vec4(col) + vec4(0u, 1u, 2u, 3u);
    let inside = vec4(row < params.rows) & (cols < vec4(params.cols));
    let start = params.first + min(row, params.rows - 1u) * params.row_stride;
    let quad = unpacked_halves(input[(start + min(col, params.cols - 1u)) / 4u]);
    return select(vec4(0.0), quad, inside);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let x = group.x * LANES + local.x;
    for (var row = 0u; row < ROWS; row++) {
        let y = group.y * ROWS + row;
        textureStore(staged, vec2(x, y), quad_at(y, x * 4u));
    }
}
