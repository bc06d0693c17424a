// Rotary position embedding, in place (Su et al. 2021, interleaved pairs).
struct Params {
    rows: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;       // [time, head_dim / 2]
@group(0) @binding(2) var<storage, read> sines: array<f32>;         // [time, head_dim / 2]
@group(0) @binding(3) var<storage, read_write> values: array<f32>;  // [rows, num_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    rotate(flat_workgroup(group, groups) * WORKGROUP_SIZE + lane, 1.0);
}
