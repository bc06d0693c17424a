// Adds a bias to rows, in place: values[row, col] += bias[row % period, col]. With a period of one every row gets
// the same, with one of a sequence's length each position its own.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    stride: u32,  // of the values: elements from one row to the next
    first: u32,   // column of the values where the bias begins
    period: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<Element>;          // [period, cols]
@group(0) @binding(2) var<storage, read_write> values: array<Element>;  // [rows, first and cols and others]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.rows * params.cols) {
        return;
    }
    let row = index / params.cols;
    let col = index % params.cols;
    values[row * params.stride + params.first + col] += bias[row % params.period * params.cols + col];
}
