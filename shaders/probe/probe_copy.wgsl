// Copies four neighbouring elements a lane: the rate of memory.
// Joined with flat_workgroup.wgsl.
struct Params {
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;         // [quads]
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;  // [quads]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index < params.quads) {
        output[index] = input[index];
    }
}
