// Gradient of causal attention for the queries: one lane a query row, probabilities recomputed
// from the log-sum-exp: d_score = p * (d_output . value - delta), d_query = scale * d_score . key.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>;          // [batch * time, num_heads * head_dim]
@group(0) @binding(2) var<storage, read> key: array<f32>;            // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read> value: array<f32>;          // [batch * time, num_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read> d_output: array<f32>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(5) var<storage, read> log_sum_exp: array<f32>;    // [batch, num_heads, time]
@group(0) @binding(6) var<storage, read> delta: array<f32>;          // [batch, num_heads, time]
@group(0) @binding(7) var<storage, read_write> d_query: array<f32>;  // [batch * time, num_heads * head_dim]

override WORKGROUP_SIZE: u32 = 64u;
override HEAD_DIM: u32 = 64u;
override QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    attend_backward_query(group, lane);
}
