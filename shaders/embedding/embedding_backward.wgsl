// Adds up the segments of each token, in order, into the gradient of its embedding row.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    vocab_size: u32,
    d_model: u32,  // elements of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Element>;        // [segments, d_model]
@group(0) @binding(2) var<storage, read> token_segments: array<u32>;      // [vocab + 1], first segment of each token
@group(0) @binding(3) var<storage, read_write> d_weight: array<Element>;  // [vocab, d_model]

override WORKGROUP_SIZE: u32 = 64u;
override ACCUMULATE: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.vocab_size * params.d_model) {
        return;
    }
    let token = index / params.d_model;
    let col = index % params.d_model;
    var sum = Element();
    for (var s = token_segments[token]; s < token_segments[token + 1u]; s++) {
        sum += partials[s * params.d_model + col];
    }
    if (ACCUMULATE) {
        sum += d_weight[index];
    }
    d_weight[index] = sum;
}
