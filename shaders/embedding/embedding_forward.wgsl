// Gathers one row of the embedding for each token that this part of it holds: all of them, unless
// the embedding is larger than one binding may be.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    rows: u32,
    d_model: u32,  // elements of a row
    first_token: u32,
    tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;            // [rows]
@group(0) @binding(2) var<storage, read> weight: array<Element>;        // [tokens, d_model], from first_token on
@group(0) @binding(3) var<storage, read_write> output: array<Element>;  // [rows, d_model]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.rows * params.d_model) {
        return;
    }
    let row = index / params.d_model;
    let col = index % params.d_model;
    // Below first_token this wraps around to a number past the part.
    let own_row = tokens[row] - params.first_token;
    if (own_row < params.tokens) {
        output[index] = weight[own_row * params.d_model + col];
    }
}
