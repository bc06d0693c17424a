// Gradient of a bias of rows with a period, one partial sum a block of repetitions:
// partials[b, position, col] = sum over the rows of block b with row % period = position of d_output[row, col].
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    stride: u32,             // of the gradient: elements from one row to the next
    first: u32,              // its column where the bias begins
    period: u32,
    repetitions_per_block: u32,
    blocks: u32,
    first_block: u32,        // of the partial sums, where rows are a part of all
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<Element>;        // [rows, first and cols and others]
@group(0) @binding(2) var<storage, read_write> partials: array<Element>;  // [all blocks, period, cols]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    let elements = params.period * params.cols;
    if (index >= params.blocks * elements) {
        return;
    }
    let block = index / elements;
    let position = index % elements / params.cols;
    let col = index % params.cols;
    let rows_per_block = params.repetitions_per_block * params.period;
    let last = min((block + 1u) * rows_per_block, params.rows);
    var sum = Element();
    for (var row = block * rows_per_block + position; row < last; row += params.period) {
        sum += d_output[row * params.stride + params.first + col];
    }
    partials[params.first_block * elements + index] = sum;
}
