// output = bytes times the scale of their block of 32. A lane takes four neighbours.
// Joined with flat_workgroup.wgsl, scaled_quants.wgsl, operand_words.wgsl or operand_halves.wgsl.
struct Params {
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<u32>;           // [quads] of bytes, [quads / 16] of pairs of scales
@group(0) @binding(2) var<storage, read_write> output: array<Quad>;   // [quads]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.quads) {
        return;
    }
    let block = index / 8u;
    let scales = input[params.quads + block / 2u];
    output[index] = quad_of(scaled_quants(input[index], scales, block));
}
