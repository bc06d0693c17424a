// delta = sum over a head of d_output * output, once for each query row (Dao et al. 2022).
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl.
struct Params {
    rows: u32,
    time: u32,
    num_heads: u32,
    head_dim: u32,  // elements
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> output: array<Element>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var<storage, read> d_output: array<Element>;     // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;      // [batch, num_heads, time]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.rows * params.num_heads) {
        return;
    }
    let row = index / params.num_heads;
    let head = index % params.num_heads;
    var sums = Element();
    for (var d = 0u; d < params.head_dim; d++) {
        sums = fma(d_output[index * params.head_dim + d], output[index * params.head_dim + d], sums);
    }
    delta[(row / params.time * params.num_heads + head) * params.time + row % params.time] = total(sums);
}
