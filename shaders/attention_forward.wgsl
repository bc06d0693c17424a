// Causal attention with an online softmax (Dao et al. 2022): one lane a query row, keys in blocks
// of four, and the log-sum-exp of each row kept for the backward pass.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>;              // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var<storage, read> key: array<f32>;                // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read> value: array<f32>;              // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read_write> output: array<f32>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read_write> log_sum_exp: array<f32>;  // [batch, num_heads, time]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    attend(group, lane);
}
