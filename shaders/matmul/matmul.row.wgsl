// output = A B for a single row A [1, k] and B that lies as [n, k]: decoding. Every element of B is
// loaded once, so there is nothing to win from staging it. A lane computes eight outputs, which share
// the loads of A.
// Joined with matmul_store.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    b_stride: u32,
    output_stride: u32,
    epilogue: u32,
    time: u32,  // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,  // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;             // [1, k]
@group(0) @binding(2) var<storage, read> b: array<f32>;             // [n, k]
@group(0) @binding(3) var<storage, read> aside: array<f32>;         // what the epilogue reads, if anything
@group(0) @binding(4) var<storage, read_write> output: array<f32>;  // [1, n]

const LANES: u32 = 8u;

// Where the row of B for four outputs begins; outputs past the last one repeat it.
fn starts(col: u32) -> vec4<u32> {
    return min(vec4(col) + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u)) * params.b_stride;
}

fn b_at(starts: vec4<u32>, k: u32) -> vec4<f32> {
    return vec4(b[starts.x + k], b[starts.y + k], b[starts.z + k], b[starts.w + k]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let col = (group.x * LANES + local.x) * 8u;
    let near = starts(col);
    let far = starts(col + 4u);
    var sums = vec4(0.0);
    var more = vec4(0.0);
    for (var k = 0u; k < params.k; k++) {
        let factor = vec4(a[k]);
        sums = fma(factor, b_at(near, k), sums);
        more = fma(factor, b_at(far, k), more);
    }
    store_quad(0u, 0u, col, sums);
    store_quad(0u, 0u, col + 4u, more);
}
