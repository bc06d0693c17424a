// Attention of the newest position of several sequences over the keys and values that a cache keeps of the
// earlier ones, by an online softmax (Dao et al. 2022) in each lane: for drivers that run shaders on the CPU,
// where a barrier costs more than the sums that it saves. A subgroup takes one key and value head of a row: it
// adds the row's own key and value to the cache, in place of the oldest where all of the slot is taken. Its
// lanes take keys in turn, for one query head of the group after the other, and add up at the end.
// Joined with attention_cache.wgsl, attention_head_quad.wgsl, attention_newest.wgsl, most_negative.wgsl.
// Joined with subgroup_lanes.wgsl.
// Joined with operand_words.wgsl or operand_halves.wgsl.
struct Params {
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    capacity: u32,       // positions of a slot
    row_stride: u32,     // elements from one row of queries, keys and values to the next
    key_first: u32,      // where keys begin in such a row, behind the queries
    value_first: u32,    // and where values do
    output_stride: u32,  // elements from one row of the output to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Quad>;           // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> places: array<u32>;         // [rows, 2]: slot, or NO_SLOT, and position
@group(0) @binding(3) var<storage, read_write> cache: array<Quad>;   // see attention_cache.wgsl
@group(0) @binding(4) var<storage, read_write> output: array<Pair>;  // [rows, num_heads * head_dim]

override HEAD_DIM: u32 = 64u;

fn attend(row: u32, head: u32, lane: u32, kept: Kept) {
    var query: array<vec4<f32>, 32>;
    var sums: array<vec4<f32>, 32>;
    for (var quad = 0u; quad < QUADS; quad++) {
        query[quad] = widened(cached_quad(row, head * HEAD_DIM, quad)) * params.scale;
    }
    var largest = MOST_NEGATIVE;
    var weight = 0.0;
    for (var key = lane; key < kept.taken; key += LANES) {
        var dots = vec4(0.0);
        for (var quad = 0u; quad < QUADS; quad++) {
            dots = fma(query[quad], widened(cache[kept.keys + key * QUADS + quad]), dots);
        }
        let score = (dots.x + dots.y) + (dots.z + dots.w);
        let before = largest;
        largest = max(before, score);
        let factor = exp(before - largest);
        let own = exp(score - largest);
        weight = fma(weight, factor, own);
        for (var quad = 0u; quad < QUADS; quad++) {
            let value = widened(cache[kept.values + key * QUADS + quad]);
            sums[quad] = fma(vec4(own), value, sums[quad] * factor);
        }
    }
    let factor = exp(largest - subgroupMax(largest));
    // The largest score's weight is one; a row without a sequence has no sum.
    let share = factor / max(subgroupAdd(weight * factor), 1.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        let attended = subgroupAdd(sums[quad] * share);
        if (lane == quad % LANES) {
            let at = (row * params.output_stride + head * HEAD_DIM + quad * 4u) / 2u;
            output[at] = pair_of(attended.xy);
            if (quad * 4u + 2u < HEAD_DIM) {
                output[at + 1u] = pair_of(attended.zw);
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let kv_head = group.x;
    let row = group.y;
    let kept = keep_newest(row, kv_head, lane, LANES);
    // The row's own key and value are where the others are.
    storageBarrier();
    let heads = params.num_heads / params.num_kv_heads;
    for (var head = kv_head * heads; head < (kv_head + 1u) * heads; head++) {
        attend(row, head, lane, kept);
    }
}
