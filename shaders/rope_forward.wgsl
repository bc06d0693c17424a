// Rotary position embedding, in place (Su et al. 2021, interleaved pairs): pair (2i, 2i + 1) of every head is
// turned by the angle of its position. A workgroup takes a row: a grid of positions and sequences needs no
// division to tell them apart, which costs drivers that run shaders on the CPU more than the rotation.
struct Params {
    first_sequence: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32,
    row_stride: u32,  // elements from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<vec2<f32>>;        // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(2) var<storage, read_write> values: array<vec2<f32>>;  // [rows, num_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;

const MAX_GROUPS: u32 = 65535u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let position = group.z * MAX_GROUPS + group.x;
    if (position >= params.time) {
        return;
    }
    let row = (params.first_sequence + group.y) * params.time + position;
    let first = row * params.row_stride / 2u;
    let pairs = params.head_dim / 2u;
    for (var i = lane; i < params.num_heads * pairs; i += WORKGROUP_SIZE) {
        let pair = values[first + i];
        let angle = angles[position * pairs + i % pairs];
        values[first + i] = fma(pair, angle.xx, vec2(-pair.y, pair.x) * angle.yy);
    }
}
