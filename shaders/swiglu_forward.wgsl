// output = silu(gate) * up, with silu(x) = x * sigmoid(x) (Shazeer 2020).
// Joined with flat_workgroup.wgsl, sigmoid.wgsl.
struct Params {
    len: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;          // [len]
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;            // [len]
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;  // [len]

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
    output[index] = x * sigmoid(x) * up[index];
}
