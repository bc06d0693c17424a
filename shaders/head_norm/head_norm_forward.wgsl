// Root-mean-square normalisation of each head of queries and keys: normed = projected * inv_rms * gain, with one
// gain for all heads of queries and one for all of keys. Values are copied.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, head_norm_heads.wgsl.
struct Params {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,    // where in a row the keys begin
    value_first: u32,
    stride: u32,       // from one row to the next
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> projected: array<Element>;     // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> query_gain: array<Element>;    // [head_elements]
@group(0) @binding(3) var<storage, read> key_gain: array<Element>;      // [head_elements]
@group(0) @binding(4) var<storage, read_write> normed: array<Element>;  // lies as projected does
@group(0) @binding(5) var<storage, read_write> inv_rms: array<f32>;     // [rows, heads of queries and keys]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let normed_heads = params.num_heads + params.num_kv_heads;
    let heads = normed_heads + params.num_kv_heads;
    let index = flat_workgroup(group, groups) * (WORKGROUP_SIZE / HEAD_LANES) + lane / HEAD_LANES;
    let row = index / heads;
    let head = index % heads;
    // All lanes have to get to the barriers.
    let is_own = row < params.rows;
    let is_normed = is_own && head < normed_heads;
    var first = row * params.stride;
    if (is_normed) {
        first += first_of(head);
    } else {
        first += params.value_first + (head - normed_heads) * params.head_elements;
    }
    var squares = Element();
    if (is_normed) {
        for (var i = lane % HEAD_LANES; i < params.head_elements; i += HEAD_LANES) {
            let x = projected[first + i];
            squares = fma(x, x, squares);
        }
    }
    let mean = sum_of_head(lane, total(squares)) / f32(params.head_elements * WIDTH);
    let scale = 1.0 / sqrt(mean + params.eps);
    if (is_own) {
        for (var i = lane % HEAD_LANES; i < params.head_elements; i += HEAD_LANES) {
            var x = projected[first + i];
            if (is_normed) {
                x = x * scale * gain_of(head, i);
            }
            normed[first + i] = x;
        }
    }
    if (is_normed && lane % HEAD_LANES == 0u) {
        inv_rms[row * normed_heads + head] = scale;
    }
}
