// values *= factor, in place.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    rows: u32,
    cols: u32,
    stride: u32,  // from one row to the next
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<Element>;  // [rows, cols]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.rows * params.cols) {
        return;
    }
    let at = (index / params.cols) * params.stride + index % params.cols;
    values[at] = values[at] * params.factor;
}
