// Sum of squares of each block of the gradients.
// Joined with reduce_sum.wgsl.
struct Params {
    len: u32,
    block_len: u32,  // a multiple of 4
    first_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradients: array<vec4<f32>>;      // [len]
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;        // [blocks of all buffers]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * params.block_len;
    let last = min(first + params.block_len, params.len);
    var sums = vec4(0.0);
    for (var i = first + lane * 4u; i < last; i += WORKGROUP_SIZE * 4u) {
        let inside = vec4(i) + vec4(0u, 1u, 2u, 3u) < vec4(last);
        let quad = select(vec4(0.0), gradients[i / 4u], inside);
        sums = fma(quad, quad, sums);
    }
    let sum = reduce_sum(lane, (sums.x + sums.y) + (sums.z + sums.w));
    if (lane == 0u) {
        squares[params.first_block + group.x] = sum;
    }
}
