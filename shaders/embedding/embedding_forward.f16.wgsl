// Gathers one row of an embedding of 2-byte floats for each token that this part of it holds, as
// embedding_forward.wgsl does with words. A lane takes four neighbours of a row.
// Joined with flat_workgroup.wgsl, unpacked_halves.wgsl.
struct Params {
    rows: u32,
    d_model: u32,
    first_token: u32,
    tokens: u32,
    quads: u32,        // of a row
    quad_stride: u32,  // of the weight: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;         // [rows]
@group(0) @binding(2) var<storage, read> weight: array<vec2<u32>>;   // [tokens, quad_stride], four halves each
@group(0) @binding(3) var<storage, read_write> output: array<f32>;   // [rows, d_model]

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
    let row = index / params.quads;
    let place = index % params.quads;
    // Below first_token this wraps around to a number past the part.
    let own_row = tokens[row] - params.first_token;
    if (own_row >= params.tokens) {
        return;
    }
    let quad = unpacked_halves(weight[own_row * params.quad_stride + place]);
    let col = place * 4u;
    for (var i = 0u; i < min(4u, params.d_model - col); i++) {
        output[row * params.d_model + col + i] = quad[i];
    }
}
