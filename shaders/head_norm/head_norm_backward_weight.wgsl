// Gradients of the heads' normalisation for its two gains, one partial sum of each a block of rows:
// partials[b, i] = sum over the rows of block b and the heads of d_normed * projected * inv_rms, in that order.
// Joined with elements_words.wgsl or elements_quads.wgsl.
struct Params {
    rows: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_elements: u32,
    key_first: u32,       // where in a row the keys begin
    stride: u32,          // from one row to the next
    d_stride: u32,
    rows_per_block: u32,
    first_block: u32,     // of the partial sums, where rows are a part of all
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> projected: array<Element>;             // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> inv_rms: array<f32>;                   // [rows, heads of queries and keys]
@group(0) @binding(3) var<storage, read> d_normed: array<Element>;              // columns as in projected
@group(0) @binding(4) var<storage, read_write> query_partials: array<Element>;  // [all blocks, head_elements]
@group(0) @binding(5) var<storage, read_write> key_partials: array<Element>;    // [all blocks, head_elements]

override WORKGROUP_SIZE: u32 = 64u;

// Sum over a block of rows and over heads from `head` on, which begin at element `first` of a row.
fn sum_over(block: u32, head: u32, count: u32, first: u32) -> Element {
    let heads = params.num_heads + params.num_kv_heads;
    let first_row = block * params.rows_per_block;
    let last_row = min(first_row + params.rows_per_block, params.rows);
    var sum = Element();
    for (var row = first_row; row < last_row; row++) {
        for (var i = 0u; i < count; i++) {
            let at = first + i * params.head_elements;
            let normed = projected[row * params.stride + at] * inv_rms[row * heads + head + i];
            sum = fma(d_normed[row * params.d_stride + at], normed, sum);
        }
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // The first lanes sum over queries, as many others over keys.
    let index = group.x * WORKGROUP_SIZE + lane;
    let size = params.head_elements;
    if (index >= 2u * size) {
        return;
    }
    let place = (params.first_block + group.y) * size + index % size;
    if (index < size) {
        query_partials[place] = sum_over(group.y, 0u, params.num_heads, index);
    } else {
        let first = params.key_first + index - size;
        key_partials[place] = sum_over(group.y, params.num_heads, params.num_kv_heads, first);
    }
}
