// Gradients of layer normalisation for its gain and its bias, one partial sum of each a block of rows:
// weight_partials[b, col] = sum over the rows of block b of d_output * (input - mean) * inv_std, and
// bias_partials[b, col] = sum over the same rows of d_output.
// Joined with elements_words.wgsl or elements_quads.wgsl.
struct Params {
    rows: u32,
    cols: u32,  // elements of a row
    rows_per_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;                  // [rows, cols]
@group(0) @binding(2) var<storage, read> statistics: array<f32>;                  // [rows, 3], see layernorm_forward.wgsl
@group(0) @binding(3) var<storage, read> d_output: array<Element>;               // [rows, cols]
@group(0) @binding(4) var<storage, read_write> weight_partials: array<Element>;  // [blocks, cols]
@group(0) @binding(5) var<storage, read_write> bias_partials: array<Element>;    // [blocks, cols]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = group.x * WORKGROUP_SIZE + lane;
    if (col >= params.cols) {
        return;
    }
    let first = group.y * params.rows_per_block;
    let last = min(first + params.rows_per_block, params.rows);
    var weight_sum = Element();
    var bias_sum = Element();
    for (var row = first; row < last; row++) {
        let index = row * params.cols + col;
        let x = (input[index] - Element(statistics[3u * row])) - Element(statistics[3u * row + 1u]);
        let d = d_output[index];
        weight_sum = fma(d, x * statistics[3u * row + 2u], weight_sum);
        bias_sum += d;
    }
    weight_partials[group.y * params.cols + col] = weight_sum;
    bias_partials[group.y * params.cols + col] = bias_sum;
}
