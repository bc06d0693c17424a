// Both gradients of root-mean-square normalisation, of rows of whole quads, in one pass. With
// n = input * inv_rms and g = d_output * weight: d_input += inv_rms * (g - n * mean(g * n)), and
// partials[b, col] = sum over the rows of block b of d_output * n.
// A subgroup of eight lanes takes a block's rows one after the other and keeps a row, the weight and
// the sums, so that each is loaded and stored once.
// Joined with subgroup_lanes.wgsl, subgroup_row.wgsl.
struct Params {
    rows: u32,
    quads: u32,  // of a row
    rows_per_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;           // [rows, quads]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;          // [quads]
@group(0) @binding(3) var<storage, read> inv_rms: array<f32>;               // [rows]
@group(0) @binding(4) var<storage, read> d_output: array<vec4<f32>>;        // [rows, quads]
@group(0) @binding(5) var<storage, read_write> d_input: array<vec4<f32>>;   // [rows, quads]
@group(0) @binding(6) var<storage, read_write> partials: array<vec4<f32>>;  // [blocks, quads]

override ACCUMULATE: bool = false;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = group.x * params.rows_per_block;
    let last = min(first + params.rows_per_block, params.rows);
    var gain: Row;
    var sums: Row;
    for (var i = 0u; i < MOST_QUADS; i++) {
        if (is_kept(i)) {
            gain[i] = weight[quad_of(lane, i)];
            sums[i] = vec4<f32>();
        }
    }
    for (var row = first; row < last; row++) {
        let base = row * params.quads;
        let scale = inv_rms[row];
        var normed: Row;
        var gradient: Row;
        var dots = vec4(zero(group));
        for (var i = 0u; i < MOST_QUADS; i++) {
            if (is_kept(i)) {
                let quad = base + quad_of(lane, i);
                normed[i] = input[quad] * scale;
                gradient[i] = own(lane, i, d_output[quad]);
                sums[i] = fma(gradient[i], normed[i], sums[i]);
                gradient[i] *= gain[i];
                dots = fma(gradient[i], normed[i], dots);
            }
        }
        let mean = sum_of_lanes(dots) / f32(params.quads * 4u);
        for (var i = 0u; i < MOST_QUADS; i++) {
            if (is_kept(i)) {
                let quad = base + quad_of(lane, i);
                var sum = vec4<f32>();
                if (ACCUMULATE) {
                    sum = d_input[quad];
                }
                sum = fma(vec4(scale), fma(normed[i], vec4(-mean), gradient[i]), sum);
                if (is_own(lane, i)) {
                    d_input[quad] = sum;
                }
            }
        }
    }
    for (var i = 0u; i < MOST_QUADS; i++) {
        if (is_kept(i) && is_own(lane, i)) {
            partials[group.x * params.quads + quad_of(lane, i)] = sums[i];
        }
    }
}
