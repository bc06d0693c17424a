// Gradient of softmax for its input: d_input = output * (d_output - sum(d_output * output)).
// Joined with flat_workgroup.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> output: array<f32>;         // [rows, cols]
@group(0) @binding(2) var<storage, read> d_output: array<f32>;       // [rows, cols]
@group(0) @binding(3) var<storage, read_write> d_input: array<f32>;  // [rows, cols]

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
    var dot = 0.0;
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        dot = fma(d_output[base + col], output[base + col], dot);
    }
    dot = reduce_sum(lane, dot);
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        d_input[base + col] = output[base + col] * (d_output[base + col] - dot);
    }
}
