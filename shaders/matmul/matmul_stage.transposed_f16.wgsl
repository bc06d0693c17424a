// Transposes a window of a matrix of 2-byte floats into a texture, as
// matmul_stage.transposed.wgsl does with words, for windows of any size.
// Joined with unpacked_halves.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    first: u32,       // a multiple of four, as is col_stride
    row_stride: u32,  // one
    col_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;           // [cols, rows] at `first`, four halves each
@group(0) @binding(2) var staged: texture_storage_2d<rgba32float, write>;   // [rows, cols], padded to whole workgroups

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// Four halves of a column from row `row` on. Loads outside of the window go to its edge and are masked.
fn quad_at(row: u32, col: u32) -> vec4<f32> {
    let rows = vec4(row) + vec4(0u, 1u, 2u, 3u);
    let inside = vec4(col < params.cols) & (rows < vec4(params.rows));
    let start = params.first + min(col, params.cols - 1u) * params.col_stride;
    let quad = unpacked_halves(input[(start + min(row, params.rows - 1u)) / 4u]);
    return select(vec4(0.0), quad, inside);
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
