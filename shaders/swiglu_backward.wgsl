// Gradients of silu(gate) * up: d_up = d_output * silu(gate), and
// d_gate = d_output * up * sigmoid(gate) * (1 + gate * (1 - sigmoid(gate))).
// Joined with flat_workgroup.wgsl, sigmoid.wgsl.
struct Params {
    len: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;          // [len]
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;            // [len]
@group(0) @binding(3) var<storage, read> d_output: array<vec4<f32>>;      // [len]
@group(0) @binding(4) var<storage, read_write> d_gate: array<vec4<f32>>;  // [len]
@group(0) @binding(5) var<storage, read_write> d_up: array<vec4<f32>>;    // [len]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The last quad may reach into the gap that follows every tensor.
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index * 4u >= params.len) {
        return;
    }
    let x = gate[index];
    let s = sigmoid(x);
    let d = d_output[index];
    d_up[index] = d * x * s;
    d_gate[index] = d * up[index] * s * (1.0 + x * (1.0 - s));
}
