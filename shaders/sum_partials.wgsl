// Adds up the leading axis: output[i] = sum over p of partials[p, i], in the order of p.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    partials: u32,
    len: u32,  // elements
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Element>;      // [partials, len]
@group(0) @binding(2) var<storage, read_write> output: array<Element>;  // [len]

override WORKGROUP_SIZE: u32 = 64u;
override ACCUMULATE: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.len) {
        return;
    }
    var sum = Element();
    for (var p = 0u; p < params.partials; p++) {
        sum += partials[p * params.len + index];
    }
    if (ACCUMULATE) {
        sum += output[index];
    }
    output[index] = sum;
}
