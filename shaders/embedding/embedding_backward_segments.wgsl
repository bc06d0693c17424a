// Adds up the gradient rows of each segment: positions that hold the same token, a few at a time.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    segments: u32,
    d_model: u32,  // elements of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<Element>;        // [rows, d_model]
@group(0) @binding(2) var<storage, read> order: array<u32>;               // [rows], positions sorted by token
@group(0) @binding(3) var<storage, read> segment_starts: array<u32>;      // [segments + 1], into order
@group(0) @binding(4) var<storage, read_write> partials: array<Element>;  // [segments, d_model]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.segments * params.d_model) {
        return;
    }
    let segment = index / params.d_model;
    let col = index % params.d_model;
    var sum = Element();
    for (var i = segment_starts[segment]; i < segment_starts[segment + 1u]; i++) {
        sum += d_output[order[i] * params.d_model + col];
    }
    partials[index] = sum;
}
