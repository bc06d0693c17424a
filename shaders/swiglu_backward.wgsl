// Gradients of silu(gate) * up: d_up = d_output * silu(gate), and
// d_gate = d_output * up * sigmoid(gate) * (1 + gate * (1 - sigmoid(gate))). Gate and up lie side by side in
// the rows of one matrix, and so do their gradients.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, sigmoid.wgsl.
struct Params {
    rows: u32,
    cols: u32,           // of the gate
    stride: u32,         // from one row of gate and up to the next, and of their gradients
    up_first: u32,       // from a gate to its up
    hidden_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<Element>;          // [rows, gate and up]
@group(0) @binding(2) var<storage, read> d_output: array<Element>;         // [rows, cols]
@group(0) @binding(3) var<storage, read_write> d_gate_up: array<Element>;  // lies as gate_up does

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
    let x = gate_up[at];
    let s = element_of(sigmoid(quad_of(x)));
    let d = d_output[row * params.hidden_stride + col];
    d_gate_up[at + params.up_first] = d * x * s;
    d_gate_up[at] = d * gate_up[at + params.up_first] * s * (1.0 + x * (1.0 - s));
}
