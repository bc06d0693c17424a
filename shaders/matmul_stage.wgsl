// Copies a window of a matrix, which may lie transposed in memory, into a texture: texel (x, y)
// holds columns 4x..4x+3 of row y, and zeros outside of the window.
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

fn input_at(row: u32, col: u32) -> f32 {
    if (row >= params.rows || col >= params.cols) {
        return 0.0;
    }
    return input[params.first + row * params.row_stride + col * params.col_stride];
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) texel: vec3<u32>) {
    let col = texel.x * 4u;
    let quad = vec4(
        input_at(texel.y, col),
        input_at(texel.y, col + 1u),
        input_at(texel.y, col + 2u),
        input_at(texel.y, col + 3u),
    );
    textureStore(staged, texel.xy, quad);
}
