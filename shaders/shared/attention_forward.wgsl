// Attends from one query row with an online softmax.
fn attend(group: vec3<u32>, lane: u32) {
    let position = group.x * WORKGROUP_SIZE + lane;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    let row = first_row + position;
    var q: array<vec4<f32>, 32>;
    var sum_value: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = query_quad(row, head, d) * params.scale;
        sum_value[d] = vec4(0.0);
    }
    var largest = MOST_NEGATIVE;
    var sum = 0.0;
    for (var key0 = 0u; key0 <= position; key0 += 4u) {
        // Keys past the position are read as the last one and masked.
        let keys = vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u);
        let rows = vec4(first_row) + min(keys, vec4(position));
        var s = vec4(0.0);
        for (var d = 0u; d < QUADS; d++) {
            s += vec4(
                dot(q[d], key_quad(rows.x, kv_head, d)),
                dot(q[d], key_quad(rows.y, kv_head, d)),
                dot(q[d], key_quad(rows.z, kv_head, d)),
                dot(q[d], key_quad(rows.w, kv_head, d)),
            );
        }
        let masked = keys > vec4(position);
        s = select(s, vec4(MOST_NEGATIVE), masked);
        let new_largest = max(largest, max(max(s.x, s.y), max(s.z, s.w)));
        let shrink = exp(largest - new_largest);
        let p = select(exp(s - new_largest), vec4(0.0), masked);
        sum = sum * shrink + (p.x + p.y + p.z + p.w);
        for (var d = 0u; d < QUADS; d++) {
            sum_value[d] = sum_value[d] * shrink
                + p.x * value_quad(rows.x, kv_head, d)
                + p.y * value_quad(rows.y, kv_head, d)
                + p.z * value_quad(rows.z, kv_head, d)
                + p.w * value_quad(rows.w, kv_head, d);
        }
        largest = new_largest;
    }
    let first = (row * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        output[first + d] = sum_value[d] / sum;
    }
    log_sum_exp[(group.z * params.num_heads + head) * params.time + position] = largest + log(sum);
}
