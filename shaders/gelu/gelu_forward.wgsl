// output = x * Phi(x) in the form by tanh (Hendrycks and Gimpel 2016):
// 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), which is x * sigmoid of twice that argument.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, gelu_argument.wgsl, sigmoid.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    stride: u32,         // of the input: elements from one row to the next
    output_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;         // [rows, cols]
@group(0) @binding(2) var<storage, read_write> output: array<Element>;  // [rows, cols]

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
    let x = input[row * params.stride + col];
    output[row * params.output_stride + col] = x * element_of(sigmoid(gelu_argument(near_zero(quad_of(x)))));
}
