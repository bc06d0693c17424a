// Gradient of layer normalisation for its input, stored or added to what is there: the residual stream's own
// gradient. With n = (input - mean) * inv_std and g = d_output * weight:
// d_input += inv_std * (g - mean(g) - n * mean(g * n)).
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, half_bits.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    cols: u32,  // elements of a row
    half_stride: u32,  // of the 2-byte floats: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Element>;          // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<Element>;         // [cols]
@group(0) @binding(3) var<storage, read> statistics: array<f32>;          // [rows, 3], see layernorm_forward.wgsl
@group(0) @binding(4) var<storage, read> d_output: array<Element>;       // [rows, cols]
@group(0) @binding(5) var<storage, read_write> d_input: array<Element>;   // [rows, cols]
@group(0) @binding(6) var<storage, read_write> halves: array<vec2<u32>>;  // d_input as 2-byte floats if HALVES, four a place

override WORKGROUP_SIZE: u32 = 64u;
override ACCUMULATE: bool = false;
// Whether 2-byte floats are kept too, for products; for rows of whole quads.
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
    let mean = Element(statistics[3u * row]);
    let rest = Element(statistics[3u * row + 1u]);
    let inv_std = statistics[3u * row + 2u];
    var sum = Element();
    var dots = Element();
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        let normed = ((input[base + col] - mean) - rest) * inv_std;
        let gradient = d_output[base + col] * weight[col];
        sum += gradient;
        dots = fma(gradient, normed, dots);
    }
    let mean_gradient = Element(reduce_sum(lane, total(sum)) / count);
    let mean_dot = reduce_sum(lane, total(dots)) / count;
    for (var col = lane; col < params.cols; col += WORKGROUP_SIZE) {
        let normed = ((input[base + col] - mean) - rest) * inv_std;
        let gradient = d_output[base + col] * weight[col];
        var d = inv_std * ((gradient - mean_gradient) - normed * mean_dot);
        if (ACCUMULATE) {
            d += d_input[base + col];
        }
        d_input[base + col] = d;
        if (HALVES) {
            halves[row * params.half_stride + col] = packed_halves(quad_of(d));
        }
    }
}
