// Transposes a window of a matrix into a texture, four words a load: texel (x, y)
// holds words y of the rows 4x..4x+3 that lie in memory, and zeros outside of the window.
// For windows and strides of whole quads.
struct Params {
    rows: u32,
    cols: u32,
    first: u32,
    row_stride: u32,
    col_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;           // [cols, rows] at `first`, with strides
@group(0) @binding(2) var staged: texture_storage_2d<rgba32float, write>;   // [rows, cols], padded to whole workgroups

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// Four words of a column from row `row` on. Loads outside of the window go to its edge and are masked.
fn quad_at(row: u32, col: u32) -> vec4<f32> {
    let start = params.first + min(col, params.cols - 1u) * params.col_stride;
    let quad = input[(start + min(row, params.rows - 4u)) / 4u];
    return select(vec4(0.0), quad, row < params.rows && col < params.cols);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let col = (group.x * LANES + local.x) * 4u;
    let x = col / 4u;
    for (var row = group.y * ROWS; row < (group.y + 1u) * ROWS; row += 4u) {
        let columns = mat4x4(
            quad_at(row, col),
            quad_at(row, col + 1u),
            quad_at(row, col + 2u),
            quad_at(row, col + 3u),
        );
        let texels = transpose(columns);
        textureStore(staged, vec2(x, row), texels[0]);
        textureStore(staged, vec2(x, row + 1u), texels[1]);
        textureStore(staged, vec2(x, row + 2u), texels[2]);
        textureStore(staged, vec2(x, row + 3u), texels[3]);
    }
}
