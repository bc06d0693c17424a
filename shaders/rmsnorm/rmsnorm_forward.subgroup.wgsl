// Root-mean-square normalisation of rows of whole quads: output = input * inv_rms * weight.
// A subgroup of eight lanes takes some rows one after the other and keeps a row and the weight, so
// that each is loaded once. For drivers that run shaders on the CPU: there a load costs as much as
// the arithmetic of a whole row.
// Joined with subgroup_lanes.wgsl, subgroup_row.wgsl.
struct Params {
    rows: u32,
    quads: u32,  // of a row
    rows_per_block: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;          // [rows, quads]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;         // [quads]
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;   // [rows, quads]
@group(0) @binding(4) var<storage, read_write> inv_rms: array<f32>;        // [rows]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = group.x * params.rows_per_block;
    let last = min(first + params.rows_per_block, params.rows);
    var gain: Row;
    for (var i = 0u; i < MOST_QUADS; i++) {
        if (is_kept(i)) {
            gain[i] = weight[quad_of(lane, i)];
        }
    }
    for (var row = first; row < last; row++) {
        let base = row * params.quads;
        var kept: Row;
        var squares = vec4(zero(group));
        for (var i = 0u; i < MOST_QUADS; i++) {
            if (is_kept(i)) {
                kept[i] = own(lane, i, input[base + quad_of(lane, i)]);
                squares = fma(kept[i], kept[i], squares);
            }
        }
        let scale = 1.0 / sqrt(sum_of_lanes(squares) / f32(params.quads * 4u) + params.eps);
        for (var i = 0u; i < MOST_QUADS; i++) {
            if (is_kept(i) && is_own(lane, i)) {
                output[base + quad_of(lane, i)] = kept[i] * scale * gain[i];
            }
        }
        if (lane == 0u) {
            inv_rms[row] = scale;
        }
    }
}
