// Gradient of causal attention for keys and values: a lane one key row or two, over all queries that see
// it and all heads that share it, probabilities recomputed from the log-sum-exp:
// d_value = p . d_output, d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
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
@group(0) @binding(4) var d_output: texture_storage_2d<rgba32float, read>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read> log_sum_exp: array<f32>;    // [batch, num_heads, time]
@group(0) @binding(6) var<storage, read> delta: array<f32>;          // [batch, num_heads, time]
@group(0) @binding(7) var<storage, read_write> d_key: array<vec4<f32>>;    // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(8) var<storage, read_write> d_value: array<vec4<f32>>;  // [batch * time, num_kv_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = HEAD_DIM / 4u;
// Two rows a lane, which share the texels they read. Of larger heads they would take more registers
// than drivers spill in reasonable time: llvmpipe compiles two rows of 80 elements for 14 s.
override PAIRS: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (PAIRS) {
        attend_backward_key_value_pair(group, lane);
    } else {
        attend_backward_key_value(group, lane);
    }
}
