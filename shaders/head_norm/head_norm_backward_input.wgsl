// Gradient of the heads' normalisation for what was projected, in place of that for what was normed. With
// n = projected * inv_rms and g = d * gain: d = inv_rms * (g - n * mean(g * n)). Values' gradients stay.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, head_norm_heads.wgsl.
struct Params {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,    // where in a row the keys begin
    stride: u32,       // from one row to the next
    d_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> projected: array<Element>;      // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> query_gain: array<Element>;     // [head_elements]
@group(0) @binding(3) var<storage, read> key_gain: array<Element>;       // [head_elements]
@group(0) @binding(4) var<storage, read> inv_rms: array<f32>;            // [rows, heads of queries and keys]
@group(0) @binding(5) var<storage, read_write> d_heads: array<Element>;  // columns as in projected

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let heads = params.num_heads + params.num_kv_heads;
    let index = flat_workgroup(group, groups) * (WORKGROUP_SIZE / HEAD_LANES) + lane / HEAD_LANES;
    let row = index / heads;
    let head = index % heads;
    // All lanes have to get to the barriers.
    let is_own = row < params.rows;
    let first = row * params.stride + first_of(head);
    let d_first = row * params.d_stride + first_of(head);
    var scale = 0.0;
    var dots = Element();
    if (is_own) {
        scale = inv_rms[index];
        for (var i = lane % HEAD_LANES; i < params.head_elements; i += HEAD_LANES) {
            dots = fma(d_heads[d_first + i] * gain_of(head, i), projected[first + i] * scale, dots);
        }
    }
    let mean = sum_of_head(lane, total(dots)) / f32(params.head_elements * WIDTH);
    if (is_own) {
        for (var i = lane % HEAD_LANES; i < params.head_elements; i += HEAD_LANES) {
            let gradient = d_heads[d_first + i] * gain_of(head, i);
            d_heads[d_first + i] = scale * (gradient - projected[first + i] * scale * mean);
        }
    }
}
