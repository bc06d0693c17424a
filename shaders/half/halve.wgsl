// output = input as 2-byte floats, times a factor if SCALED. A lane takes four neighbours of a row;
// the gap behind a row is filled with zeros.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, half_bits.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    input_stride: u32,  // words from one row to the next
    quads: u32,         // of a row of the output, the gap behind it included
    quad_stride: u32,   // of the output: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;            // [rows, cols]
@group(0) @binding(2) var<storage, read> factor: array<f32>;               // [1]
@group(0) @binding(3) var<storage, read_write> output: array<vec2<u32>>;   // [rows, quads], four halves each

override WORKGROUP_SIZE: u32 = 64u;
override SCALED: bool = false;

fn quad_at(row: u32, col: u32) -> vec4<f32> {
    let at = row * params.input_stride + col;
    if (WIDTH == 4u) {
        return select(vec4(0.0), vec4<f32>(input[at / 4u]), col < params.cols);
    }
    var quad = vec4(0.0);
    for (var i = 0u; i < min(4u, params.cols - min(col, params.cols)); i++) {
        quad[i] = word_of(input[at + i], 0u);
    }
    return quad;
}

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
    var quad = quad_at(row, place * 4u);
    if (SCALED) {
        quad *= factor[0];
    }
    output[row * params.quad_stride + place] = packed_halves(quad);
}
