// Causal attention with an online softmax (Dao et al. 2022): a lane one query row or two, keys in
// blocks of four, and the log-sum-exp of each row kept for the backward pass.
// For drivers that run shaders on the CPU: there a texel is far cheaper than a storage load.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var query: texture_storage_2d<rgba32float, read>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var key: texture_storage_2d<rgba32float, read>;  // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(3) var value: texture_storage_2d<rgba32float, read>;  // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read_write> log_sum_exp: array<f32>;        // [batch, num_heads, time]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = HEAD_DIM / 4u;
// Two rows a lane, which share the texels they read. Of larger heads they would take more registers
// than drivers spill in reasonable time: llvmpipe compiles two rows of 80 elements for 14 s.
override PAIRS: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (PAIRS) {
        attend_pair(group, lane);
    } else {
        attend(group, lane);
    }
}
