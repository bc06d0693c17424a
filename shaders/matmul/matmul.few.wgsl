// output = A B for a few rows A [m, k] and B that lies as [n, k]: decoding, which reads each weight once. A
// workgroup takes four columns for ROWS rows: its lanes take quads of k in turn, and add up at the end. The
// order of a row's sums is the same whatever ROWS is and whatever rows are beside it.
// With several splits of k, split z writes its own partial product.
// Joined with matmul_epilogue.wgsl, matmul_line_of_col.wgsl, matmul_load_f32.wgsl or matmul_load_f16.wgsl.
// Joined with matmul_store_quad.wgsl or matmul_store_f16.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    k_per_split: u32,    // a multiple of four, or k
    a_stride: u32,       // elements from one row to the next
    b_stride: u32,
    output_stride: u32,  // of what the epilogue reads as well
    second_stride: u32,
    time: u32,           // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,       // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Word>;               // [m, k]
@group(0) @binding(2) var<storage, read> b: array<Word>;               // [n, k]
@group(0) @binding(3) var<storage, read> a_quads: array<Quad>;         // a again, four elements at a time
@group(0) @binding(4) var<storage, read> b_quads: array<Quad>;         // b again, four elements at a time
@group(0) @binding(5) var<storage, read> aside: array<Stored>;         // what the epilogue reads, if anything
@group(0) @binding(6) var<storage, read_write> output: array<Stored>;  // [m, n], or [splits, m, n]
@group(0) @binding(7) var<storage, read_write> second: array<Stored>;  // what else it writes

override ROWS: u32 = 4u;  // 1 or 4

const LANES: u32 = 64u;
const SHARES: u32 = 8u;  // lanes that add up a row's partial sums, eight each

var<workgroup> parts: array<vec4<f32>, 256>;  // [ROWS, LANES]
var<workgroup> shares: array<vec4<f32>, 32>;  // [ROWS, SHARES]

fn add_products(sums: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
    var result = fma(vec4(x.x), vec4(w[0].x, w[1].x, w[2].x, w[3].x), sums);
    result = fma(vec4(x.y), vec4(w[0].y, w[1].y, w[2].y, w[3].y), result);
    result = fma(vec4(x.z), vec4(w[0].z, w[1].z, w[2].z, w[3].z), result);
    return fma(vec4(x.w), vec4(w[0].w, w[1].w, w[2].w, w[3].w), result);
}

// Where a row of A begins; rows past the last one repeat it.
fn start_of(row: u32) -> u32 {
    return min(row, params.m - 1u) * params.a_stride;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * ROWS;
    let col0 = group.x * 4u;
    let k_start = group.z * params.k_per_split;
    let k_end = min(k_start + params.k_per_split, params.k);
    let gate = EPILOGUE == GATE;
    let cols = min(vec4(col0) + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
    let line0 = line_of_col(cols.x, gate) * params.b_stride;
    let line1 = line_of_col(cols.y, gate) * params.b_stride;
    let line2 = line_of_col(cols.z, gate) * params.b_stride;
    let line3 = line_of_col(cols.w, gate) * params.b_stride;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var k = k_start + lane * 4u; k < k_end; k += LANES * 4u) {
        let count = min(k_end - k, 4u);
        let w = mat4x4(
            load_b(line0 + k, count),
            load_b(line1 + k, count),
            load_b(line2 + k, count),
            load_b(line3 + k, count),
        );
        s0 = add_products(s0, load_a(start_of(row0) + k, count), w);
        if (ROWS > 1u) {
            s1 = add_products(s1, load_a(start_of(row0 + 1u) + k, count), w);
            s2 = add_products(s2, load_a(start_of(row0 + 2u) + k, count), w);
            s3 = add_products(s3, load_a(start_of(row0 + 3u) + k, count), w);
        }
    }
    parts[lane] = s0;
    if (ROWS > 1u) {
        parts[LANES + lane] = s1;
        parts[2u * LANES + lane] = s2;
        parts[3u * LANES + lane] = s3;
    }
    // Every lane's sums are there.
    workgroupBarrier();
    if (lane < ROWS * SHARES) {
        let first = lane / SHARES * LANES + lane % SHARES;
        var sum = parts[first];
        for (var i = SHARES; i < LANES; i += SHARES) {
            sum += parts[first + i];
        }
        shares[lane] = sum;
    }
    // So are the sums of a share each.
    workgroupBarrier();
    if (lane < ROWS) {
        let first = lane * SHARES;
        var sum = shares[first];
        for (var i = 1u; i < SHARES; i++) {
            sum += shares[first + i];
        }
        store_quad(group.z, row0 + lane, col0, sum);
    }
}
