// Eight loads from workgroup memory an iteration, neighbouring lanes reading neighbouring words:
// the rate of workgroup memory.
// Joined with flat_workgroup.wgsl.
struct Params {
    iterations: u32,
}

const TILE: u32 = 1024u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;         // [TILE]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [workgroups * WORKGROUP_SIZE]

override WORKGROUP_SIZE: u32 = 64u;

var<workgroup> tile: array<f32, TILE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = lane; i < TILE; i += WORKGROUP_SIZE) {
        tile[i] = input[i];
    }
    // Every lane reads what the others have brought.
    workgroupBarrier();
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    for (var i = 0u; i < params.iterations; i++) {
        // The largest index is 127 + 7 * 128, the last of the tile.
        let at = (lane + i) & 127u;
        sum0 += vec4(tile[at], tile[at + 128u], tile[at + 256u], tile[at + 384u]);
        sum1 += vec4(tile[at + 512u], tile[at + 640u], tile[at + 768u], tile[at + 896u]);
    }
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    output[index] = dot(sum0 + sum1, vec4(1.0));
}
