// Global norm of gradients that were multiplied with a scale, from the blocks' squares; the factor that
// unscales and clips them; and the scale of the next step (Micikevicius et al. 2018). Where the
// gradients are not finite the step is skipped, which a factor below zero says.
// Joined with reduce_sum.wgsl.
struct Params {
    blocks: u32,
    max_norm: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    growth_interval: u32,
    smallest_scale: f32,
    largest_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> squares: array<f32>;              // [blocks]
@group(0) @binding(2) var<storage, read> step: array<f32>;                 // learning rate, and what stays unread
@group(0) @binding(3) var<storage, read_write> norm_and_clip: array<f32>;  // [2]
@group(0) @binding(4) var<storage, read_write> state: array<u32>;          // scale, steps since it changed, skipped
                                                                           // steps, 1 - beta1^n, 1 - beta2^n
@group(0) @binding(5) var<storage, read_write> applied_step: array<f32>;   // learning rate, 1 - beta1^n,
                                                                           // sqrt(1 - beta2^n)

override WORKGROUP_SIZE: u32 = 64u;

// By its bits, since compilers may take it that no number is infinite.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var block = lane; block < params.blocks; block += WORKGROUP_SIZE) {
        sum += squares[block];
    }
    let total = reduce_sum(lane, sum);
    if (lane != 0u) {
        return;
    }
    let scale = bitcast<f32>(state[0]);
    let norm = sqrt(total) / scale;
    norm_and_clip[0] = norm;
    if (!is_finite(total)) {
        norm_and_clip[1] = -1.0;
        state[0] = bitcast<u32>(max(scale * 0.5, params.smallest_scale));
        state[1] = 0u;
        state[2] += 1u;
        return;
    }
    norm_and_clip[1] = select(1.0, params.max_norm / (norm + 1e-6), norm > params.max_norm) / scale;
    let before = vec2(bitcast<f32>(state[3]), bitcast<f32>(state[4]));
    let corrections = before + vec2(params.one_minus_beta1, params.one_minus_beta2) * (1.0 - before);
    state[3] = bitcast<u32>(corrections.x);
    state[4] = bitcast<u32>(corrections.y);
    applied_step[0] = step[0];
    applied_step[1] = corrections.x;
    applied_step[2] = sqrt(corrections.y);
    if (state[1] + 1u == params.growth_interval) {
        state[0] = bitcast<u32>(min(scale * 2.0, params.largest_scale));
        state[1] = 0u;
    } else {
        state[1] += 1u;
    }
}
