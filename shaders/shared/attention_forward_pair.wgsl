// Attends from two neighbouring query rows with an online softmax: a texel of a key or a value costs
// as much as a dozen multiply-adds, and serves both.
fn attend_pair(group: vec3<u32>, lane: u32) {
    let position = (group.x * WORKGROUP_SIZE + lane) * 2u;
    let head = group.y;
    let first_row = group.z * params.time;
    if (position >= params.time) {
        return;
    }
    // Of an odd time, the last row is computed twice.
    let next = min(position + 1u, params.time - 1u);
    let kv_head = head / (params.num_heads / params.num_kv_heads);
    var q0: array<vec4<f32>, 32>;
    var q1: array<vec4<f32>, 32>;
    var sums0: array<vec4<f32>, 32>;
    var sums1: array<vec4<f32>, 32>;
    for (var d = 0u; d < QUADS; d++) {
        q0[d] = query_quad(first_row + position, head, d) * params.scale;
        q1[d] = query_quad(first_row + next, head, d) * params.scale;
        sums0[d] = vec4(0.0);
        sums1[d] = vec4(0.0);
    }
    var largest = vec2(MOST_NEGATIVE);
    var sum = vec2(0.0);
    for (var key0 = 0u; key0 <= next; key0 += 4u) {
        // Keys past the second row's position are read as that and masked.
        let keys = vec4(key0, key0 + 1u, key0 + 2u, key0 + 3u);
        let rows = vec4(first_row) + min(keys, vec4(next));
        var s0 = vec4(0.0);
        var s1 = vec4(0.0);
        for (var d = 0u; d < QUADS; d++) {
            let k = mat4x4(
                key_quad(rows.x, kv_head, d),
                key_quad(rows.y, kv_head, d),
                key_quad(rows.z, kv_head, d),
                key_quad(rows.w, kv_head, d),
            );
            // The products of a row vector with each column.
            s0 += q0[d] * k;
            s1 += q1[d] * k;
        }
        let masked0 = keys > vec4(position);
        let masked1 = keys > vec4(next);
        s0 = select(s0, vec4(MOST_NEGATIVE), masked0);
        s1 = select(s1, vec4(MOST_NEGATIVE), masked1);
        let highest = vec2(max(max(s0.x, s0.y), max(s0.z, s0.w)), max(max(s1.x, s1.y), max(s1.z, s1.w)));
        let new_largest = max(largest, highest);
        let shrink = exp(largest - new_largest);
        let p0 = select(exp(s0 - new_largest.x), vec4(0.0), masked0);
        let p1 = select(exp(s1 - new_largest.y), vec4(0.0), masked1);
        sum = sum * shrink + vec2(p0.x + p0.y + p0.z + p0.w, p1.x + p1.y + p1.z + p1.w);
        for (var d = 0u; d < QUADS; d++) {
            let v = mat4x4(
                value_quad(rows.x, kv_head, d),
                value_quad(rows.y, kv_head, d),
                value_quad(rows.z, kv_head, d),
                value_quad(rows.w, kv_head, d),
            );
            sums0[d] = sums0[d] * shrink.x + v * p0;
            sums1[d] = sums1[d] * shrink.y + v * p1;
        }
        largest = new_largest;
    }
    let first = ((first_row + position) * params.num_heads + head) * QUADS;
    let second = ((first_row + next) * params.num_heads + head) * QUADS;
    for (var d = 0u; d < QUADS; d++) {
        output[first + d] = sums0[d] / sum.x;
        output[second + d] = sums1[d] / sum.y;
    }
    let statistics = (group.z * params.num_heads + head) * params.time;
    log_sum_exp[statistics + position] = largest.x + log(sum.x);
    log_sum_exp[statistics + next] = largest.y + log(sum.y);
}
