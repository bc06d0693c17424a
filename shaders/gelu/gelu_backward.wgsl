// Gradient of the GELU in the form by tanh: with s = sigmoid(z(x)), d_input = d_output * (s + x * s * (1 - s) * z'(x)).
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, gelu_argument.wgsl, sigmoid.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    stride: u32,           // of the input and its gradient: elements from one row to the next
    d_output_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;          // [rows, cols]
@group(0) @binding(2) var<storage, read> d_output: array<Element>;       // [rows, cols]
@group(0) @binding(3) var<storage, read_write> d_input: array<Element>;  // lies as the input does

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
    let at = row * params.stride + col;
    // Where x is far from zero, the second term is zero.
    let x = near_zero(quad_of(input[at]));
    let s = sigmoid(gelu_argument(x));
    let slope = s + x * s * (1.0 - s) * gelu_argument_slope(x);
    d_input[at] = d_output[row * params.d_output_stride + col] * element_of(slope);
}
