// Layer normalisation of each row: output = (input - mean) * inv_std * weight + bias (Ba et al. 2016).
// Of a mean that is large beside the spread of its row, what f32 rounds off counts too: it is the mean of the
// distances from the rounded one (the corrected two-pass algorithm of Chan, Golub and LeVeque 1983).
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, half_bits.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    cols: u32,  // elements of a row
    eps: f32,
    half_stride: u32,  // of the output if it is of 2-byte floats: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;           // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<Element>;          // [cols]
@group(0) @binding(3) var<storage, read> bias: array<Element>;            // [cols]
@group(0) @binding(4) var<storage, read_write> output: array<Element>;    // [rows, cols], or nothing if HALVES
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>;    // [rows, 3]: mean, what was rounded off it, inverse standard deviation
@group(0) @binding(6) var<storage, read_write> halves: array<vec2<u32>>;  // the output if HALVES, four a place

override WORKGROUP_SIZE: u32 = 64u;
// Whether the output is of 2-byte floats; for rows of whole quads.
override HALVES: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    if (row >= params.rows) {
        return;
    }
    let base = row * params.cols;
    let count = f32(params.cols * WIDTH);
    var sum = Element();
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        sum += input[base + col];
    }
    let mean = reduce_sum(lane, total(sum)) / count;
    var distances = Element();
    var squares = Element();
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        let x = input[base + col] - Element(mean);
        distances += x;
        squares = fma(x, x, squares);
    }
    let rest = reduce_sum(lane, total(distances)) / count;
    let variance = max(reduce_sum(lane, total(squares)) / count - rest * rest, 0.0);
    let inv_std = 1.0 / sqrt(variance + params.eps);
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        let x = (input[base + col] - Element(mean)) - Element(rest);
        let normed = fma(x * inv_std, weight[col], bias[col]);
        if (HALVES) {
            halves[row * params.half_stride + col] = packed_halves(quad_of(normed));
        } else {
            output[base + col] = normed;
        }
    }
    if (lane == 0u) {
        statistics[3u * row] = mean;
        statistics[3u * row + 1u] = rest;
        statistics[3u * row + 2u] = inv_std;
    }
}
