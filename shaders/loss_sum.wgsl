// Adds the losses of a chunk of rows to the step's total, in one workgroup and a fixed order.
// Joined with reduce_sum.wgsl.
struct Params {
    rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> losses: array<f32>;       // [rows]
@group(0) @binding(2) var<storage, read> scale: array<f32>;        // [1]
@group(0) @binding(3) var<storage, read_write> total: array<f32>;  // [1]

override WORKGROUP_SIZE: u32 = 64u;
override ACCUMULATE: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var row = lane; row < params.rows; row += WORKGROUP_SIZE) {
        sum += losses[row];
    }
    sum = reduce_sum(lane, sum) * scale[0];
    if (lane == 0u) {
        if (ACCUMULATE) {
            sum += total[0];
        }
        total[0] = sum;
    }
}
