// Global gradient norm from the blocks' squares, and the factor that clips it:
// max_norm / (norm + 1e-6) where norm > max_norm, else 1 (as torch.nn.utils.clip_grad_norm_).
// Joined with reduce_sum.wgsl.
struct Params {
    blocks: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> squares: array<f32>;            // [blocks]
@group(0) @binding(2) var<storage, read_write> norm_and_clip: array<f32>;  // [2]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var block = lane; block < params.blocks; block += WORKGROUP_SIZE) {
        sum += squares[block];
    }
    let norm = sqrt(reduce_sum(lane, sum));
    if (lane == 0u) {
        norm_and_clip[0] = norm;
        norm_and_clip[1] = select(1.0, params.max_norm / (norm + 1e-6), norm > params.max_norm);
    }
}
