// output = A B for one row A [1, k] and B that lies as [n, k] in a texture: decoding a single sequence, on drivers
// that run shaders on the CPU. As matmul.few_texture.wgsl, with the same order of sums, but the row comes from
// where it lies: a copy of it takes longer than its loads, which sixteen columns share.
// Joined with matmul_few_texture.wgsl, matmul_store_quad.wgsl, subgroup_lanes.wgsl.
// Joined with operand_words.wgsl or operand_halves.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,          // a multiple of four
    first_col: u32,  // of the output, whose line of B is the texture's first
    output_stride: u32,
    second_stride: u32,
    time: u32,       // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,   // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Quad>;             // [1, k]
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;  // [n or fewer, k]
@group(0) @binding(3) var<storage, read> aside: array<f32>;          // what the epilogue reads, if anything
@group(0) @binding(4) var<storage, read_write> output: array<f32>;   // [1, n]
@group(0) @binding(5) var<storage, read_write> second: array<f32>;   // what else it writes

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let col0 = params.first_col + group.x * 16u;
    let lines0 = lines_of(col0);
    let lines1 = lines_of(col0 + 4u);
    let lines2 = lines_of(col0 + 8u);
    let lines3 = lines_of(col0 + 12u);
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var texel = lane; texel * 4u < params.k; texel += LANES) {
        let x = widened(a[texel]);
        s0 = add_quad(s0, x, weights_at(texel, lines0));
        s1 = add_quad(s1, x, weights_at(texel, lines1));
        s2 = add_quad(s2, x, weights_at(texel, lines2));
        s3 = add_quad(s3, x, weights_at(texel, lines3));
    }
    s0 = subgroupAdd(s0);
    s1 = subgroupAdd(s1);
    s2 = subgroupAdd(s2);
    s3 = subgroupAdd(s3);
    // A lane stores a quad.
    var sums = s0;
    if (lane == 1u) {
        sums = s1;
    } else if (lane == 2u) {
        sums = s2;
    } else if (lane == 3u) {
        sums = s3;
    }
    if (lane < 4u) {
        store_quad(0u, 0u, col0 + lane * 4u, sums);
    }
}
