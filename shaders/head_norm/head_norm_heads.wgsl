// Heads of queries and keys in a row, those of queries first, with some lanes to each, and their gains.
// Joined with elements_words.wgsl or elements_quads.wgsl.

// Lanes that share a head: a power of two.
override HEAD_LANES: u32 = 8u;

var<workgroup> head_tree: array<f32, WORKGROUP_SIZE>;

fn first_of(head: u32) -> u32 {
    if (head < params.num_heads) {
        return head * params.head_elements;
    }
    return params.key_first + (head - params.num_heads) * params.head_elements;
}

fn gain_of(head: u32, i: u32) -> Element {
    if (head < params.num_heads) {
        return query_gain[i];
    }
    return key_gain[i];
}

// Sum over the lanes of a head by a tree, in an order that never changes.
fn sum_of_head(lane: u32, value: f32) -> f32 {
    if (HEAD_LANES == 1u) {
        return value;
    }
    // The tree may still be read by an earlier sum.
    workgroupBarrier();
    head_tree[lane] = value;
    for (var half = HEAD_LANES / 2u; half > 0u; half /= 2u) {
        // Each level reads what other lanes wrote in the level before.
        workgroupBarrier();
        if (lane % HEAD_LANES < half) {
            head_tree[lane] += head_tree[lane + half];
        }
    }
    // A head's first lane has written the total.
    workgroupBarrier();
    return head_tree[lane / HEAD_LANES * HEAD_LANES];
}
