// Copies a window of a matrix, which may lie transposed in memory, into a texture:
// its texel (x, y) holds columns 4x..4x+3 of row y, and zeros outside of the window.
struct Params {
    rows: u32,
    cols: u32,
    first: u32,
    row_stride: u32,
    col_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;                 // [rows, cols] at `first`, with strides
@group(0) @binding(2) var staged: texture_storage_2d<rgba32float, write>;   // [rows, cols], padded to whole workgroups

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// Columns col..col+3 of a row. Loads outside of the window go to its edge and are masked, so that a
// lane's loop over rows has no branches: on lavapipe that takes a quarter less time.
fn quad_at(row: u32, col: u32) -> vec4<f32> {
    let cols = vec4(col) + vec4(0u, 1u, 2u, 3u);
    let inside = vec4(row < params.rows) & (cols < vec4(params.cols));
    let start = params.first + min(row, params.rows - 1u) * params.row_stride;
    let at = vec4(start) + min(cols, vec4(params.cols - 1u)) * params.col_stride;
    let quad = vec4(input[at.x], input[at.y], input[at.z], input[at.w]);
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
