// Rotates pair (2i, 2i + 1) of every head by the angle of its position, or by minus that angle. A
// workgroup takes a row: a grid of positions and sequences needs no division to tell them apart, which
// costs drivers that run shaders on the CPU more than the rotation.
// Joined with rope_words.wgsl or rope_quads.wgsl.
const MAX_GROUPS: u32 = 65535u;

fn rotate(position: u32, sequence: u32, lane: u32, direction: f32) {
    if (position >= params.time) {
        return;
    }
    let row = sequence * params.time + position;
    let entries = params.head_dim / (2u * PAIRS);
    let count = params.num_heads * entries;
    for (var i = lane; i < count; i += WORKGROUP_SIZE) {
        let at = row * count + i;
        values[at] = turn(values[at], angles[position * entries + i % entries], direction);
    }
}
