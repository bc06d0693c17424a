// Gradient of root-mean-square normalisation for its gain, one partial sum a block of rows:
// partials[b, col] = sum over the rows of block b of d_output * input * inv_rms.
// Joined with elements_words.wgsl or elements_quads.wgsl.
struct Params {
    rows: u32,
    cols: u32,  // elements of a row
    rows_per_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;           // [rows, cols]
@group(0) @binding(2) var<storage, read> inv_rms: array<f32>;             // [rows]
@group(0) @binding(3) var<storage, read> d_output: array<Element>;        // [rows, cols]
@group(0) @binding(4) var<storage, read_write> partials: array<Element>;  // [blocks, cols]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = group.x * WORKGROUP_SIZE + lane;
    if (col >= params.cols) {
        return;
    }
    let first = group.y * params.rows_per_block;
    let last = min(first + params.rows_per_block, params.rows);
    var sum = Element();
    for (var row = first; row < last; row++) {
        let index = row * params.cols + col;
        sum = fma(d_output[index], input[index] * Element(inv_rms[row]), sum);
    }
    partials[group.y * params.cols + col] = sum;
}
