// Softmax of each row; entries of minus infinity become exact zeros.
// Joined with flat_workgroup.wgsl, most_negative.wgsl, reduce_max.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;         // [rows, cols]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [rows, cols]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    if (row >= params.rows) {
        return;
    }
    let base = row * params.cols;
    var largest = MOST_NEGATIVE;
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        largest = max(largest, input[base + col]);
    }
    largest = reduce_max(lane, largest);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        sum += exp(input[base + col] - largest);
    }
    sum = reduce_sum(lane, sum);
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        output[base + col] = exp(input[base + col] - largest) / sum;
    }
}
