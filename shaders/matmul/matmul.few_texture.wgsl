// output = A B for a few rows A [m, k] and B that lies as [n, k]: decoding, on drivers that run shaders on the
// CPU, where B stays in textures from one token to the next. A texel holds four steps of k; both textures are
// padded with zeros to whole groups of eight rows.
// A subgroup takes eight columns for ROWS rows: its lanes take texels in turn, and add up at the end. The
// order of a row's sums is the same whatever ROWS is and whatever rows are beside it.
// Joined with matmul_few_texture.wgsl, matmul_store_quad.wgsl, subgroup_lanes.wgsl.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    first_col: u32,  // of the output, whose line of B is the texture's first
    output_stride: u32,
    second_stride: u32,
    time: u32,       // rows of a sequence, for an epilogue that rotates
    head_dim: u32,
    boundary: u32,   // column behind those that are turned, or where up begins behind its gate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;  // [m, k]
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;  // [n or fewer, k]
@group(0) @binding(3) var<storage, read> aside: array<f32>;          // what the epilogue reads, if anything
@group(0) @binding(4) var<storage, read_write> output: array<f32>;   // [m, n]
@group(0) @binding(5) var<storage, read_write> second: array<f32>;   // what else it writes

override ROWS: u32 = 4u;  // 1 or 4

// Sums of a row: eight columns, as two quads.
struct Sums {
    near: vec4<f32>,
    far: vec4<f32>,
}

// Lines of B of eight columns at four steps of k.
struct Weights {
    near: mat4x4<f32>,
    far: mat4x4<f32>,
}

fn add_products(sums: Sums, x: vec4<f32>, w: Weights) -> Sums {
    return Sums(add_quad(sums.near, x, w.near), add_quad(sums.far, x, w.far));
}

fn added_up(sums: Sums) -> Sums {
    return Sums(subgroupAdd(sums.near), subgroupAdd(sums.far));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row0 = group.y * ROWS;
    let col0 = params.first_col + group.x * 8u;
    let near = lines_of(col0);
    let far = lines_of(col0 + 4u);
    var s0: Sums;
    var s1: Sums;
    var s2: Sums;
    var s3: Sums;
    for (var texel = lane; texel * 4u < params.k; texel += LANES) {
        let w = Weights(weights_at(texel, near), weights_at(texel, far));
        s0 = add_products(s0, textureLoad(a, vec2(texel, row0)), w);
        if (ROWS > 1u) {
            s1 = add_products(s1, textureLoad(a, vec2(texel, row0 + 1u)), w);
            s2 = add_products(s2, textureLoad(a, vec2(texel, row0 + 2u)), w);
            s3 = add_products(s3, textureLoad(a, vec2(texel, row0 + 3u)), w);
        }
    }
    s0 = added_up(s0);
    if (ROWS > 1u) {
        s1 = added_up(s1);
        s2 = added_up(s2);
        s3 = added_up(s3);
    }
    // A lane stores a quad: of the first four lanes each the near one of a row, of the others the far ones.
    let row = lane % 4u;
    var sums = s0;
    if (ROWS > 1u) {
        if (row == 1u) {
            sums = s1;
        } else if (row == 2u) {
            sums = s2;
        } else if (row == 3u) {
            sums = s3;
        }
    }
    if (row < ROWS) {
        let is_near = lane < 4u;
        store_quad(0u, row0 + row, col0 + select(4u, 0u, is_near), select(sums.far, sums.near, is_near));
    }
}
