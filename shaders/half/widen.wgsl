// output = 2-byte floats as f32. A lane takes four neighbours of a row.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, unpacked_halves.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    output_stride: u32,  // words from one row to the next
    quads: u32,          // of a row of the input
    quad_stride: u32,    // of the input: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;          // [rows, quads], four halves each
@group(0) @binding(2) var<storage, read_write> output: array<Element>;     // [rows, cols]

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
    let col = place * 4u;
    let quad = unpacked_halves(input[row * params.quad_stride + place]);
    let at = row * params.output_stride + col;
    if (WIDTH == 4u) {
        output[at / 4u] = element_of(quad);
        return;
    }
    for (var i = 0u; i < min(4u, params.cols - col); i++) {
        output[at + i] = element_of(vec4(quad[i]));
    }
}
