// One AdamW step (Loshchilov and Hutter 2019, as torch.optim.AdamW computes it) over parameters
// that share a decay, with the gradient clipped on the way in.
// Joined with flat_workgroup.wgsl.
struct Params {
    len: u32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    eps: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<f32>;              // learning rate, 1 - beta1^t, sqrt(1 - beta2^t)
@group(0) @binding(2) var<storage, read> norm_and_clip: array<f32>;     // [2]
@group(0) @binding(3) var<storage, read> gradient: array<vec4<f32>>;          // [len]
@group(0) @binding(4) var<storage, read_write> parameter: array<vec4<f32>>;   // [len]
@group(0) @binding(5) var<storage, read_write> moment1: array<vec4<f32>>;     // [len]
@group(0) @binding(6) var<storage, read_write> moment2: array<vec4<f32>>;     // [len]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The last quad may reach into the gap that follows every tensor.
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    // A factor below zero skips the step.
    if (index * 4u >= params.len || norm_and_clip[1] < 0.0) {
        return;
    }
    let learning_rate = step[0];
    let g = gradient[index] * norm_and_clip[1];
    let before = moment1[index];
    let m = before + params.one_minus_beta1 * (g - before);
    let v = params.beta2 * moment2[index] + params.one_minus_beta2 * g * g;
    let decayed = parameter[index] * (1.0 - learning_rate * params.weight_decay);
    moment1[index] = m;
    moment2[index] = v;
    parameter[index] = decayed - learning_rate / step[1] * (m / (sqrt(v) / step[2] + params.eps));
}
