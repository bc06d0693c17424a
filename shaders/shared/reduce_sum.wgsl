// Sum over a workgroup by a tree, in an order that never changes.
var<workgroup> sum_tree: array<f32, WORKGROUP_SIZE>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    // The tree may still be read by an earlier reduction.
    workgroupBarrier();
    sum_tree[lane] = value;
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
        // Each level reads what other lanes wrote in the level before.
        workgroupBarrier();
        if (lane < half) {
            sum_tree[lane] += sum_tree[lane + half];
        }
    }
    // Lane 0 has written the total.
    workgroupBarrier();
    return sum_tree[0];
}
