// Gradient of the rotary position embedding, in place: the rotation by the negative angle.
// Joined with rope_rotate.wgsl, rope_words.wgsl or rope_quads.wgsl.
struct Params {
    first_sequence: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<Pairs>;        // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(2) var<storage, read_write> values: array<Pairs>;  // [rows, num_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    rotate(group.z * MAX_GROUPS + group.x, params.first_sequence + group.y, lane, -1.0);
}
