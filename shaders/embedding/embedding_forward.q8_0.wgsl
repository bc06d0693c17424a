// Gathers one row of an embedding of q8_0 for each token that this part of it holds, as
// embedding_forward.wgsl does with words. A lane takes four neighbours of a row.
// Joined with flat_workgroup.wgsl, scaled_quants.wgsl.
struct Params {
    rows: u32,
    quads: u32,        // of a row
    first_token: u32,
    tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;               // [rows]
@group(0) @binding(2) var<storage, read> weight: array<u32>;               // [tokens, quads] of bytes, and pairs of scales
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;   // [rows, quads]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.rows * params.quads) {
        return;
    }
    // Below first_token this wraps around to a number past the part.
    let own_row = tokens[index / params.quads] - params.first_token;
    if (own_row >= params.tokens) {
        return;
    }
    let place = own_row * params.quads + index % params.quads;
    let block = place / 8u;
    let scales = weight[params.tokens * params.quads + block / 2u];
    output[index] = scaled_quants(weight[place], scales, block);
}
