// Sum of squares of each block of the gradients.
struct Params {
    len: u32,
    block_len: u32,
    first_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;      // [len]
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;  // [blocks of all buffers]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * params.block_len;
    let last = min(first + params.block_len, params.len);
    var sum = 0.0;
    for (var i = first + lane; i < last; i += WORKGROUP_SIZE) {
        sum = fma(gradients[i], gradients[i], sum);
    }
    sum = reduce_sum(lane, sum);
    if (lane == 0u) {
        squares[params.first_block + group.x] = sum;
    }
}
