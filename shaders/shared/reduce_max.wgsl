// Maximum over a workgroup by a tree.
var<workgroup> max_tree: array<f32, WORKGROUP_SIZE>;

fn reduce_max(lane: u32, value: f32) -> f32 {
    // The tree may still be read by an earlier reduction.
    workgroupBarrier();
    max_tree[lane] = value;
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
        // Each level reads what other lanes wrote in the level before.
        workgroupBarrier();
        if (lane < half) {
            max_tree[lane] = max(max_tree[lane], max_tree[lane + half]);
        }
    }
    // Lane 0 has written the maximum.
    workgroupBarrier();
    return max_tree[0];
}
