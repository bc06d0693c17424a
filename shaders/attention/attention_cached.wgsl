// Attention of the newest position of several sequences over the keys and values that a cache keeps of the
// earlier ones, by an online softmax (Dao et al. 2022). A workgroup takes one key and value head of a row: it
// adds the row's own key and value to the cache, in place of the oldest where all of the slot is taken, and
// goes through them for HEADS query heads of the group at a time, which share what is read.
// Joined with attention_cache.wgsl, attention_head_quad.wgsl, attention_newest.wgsl, most_negative.wgsl.
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
override LANES: u32 = 64u;  // a power of two, no less than QUADS
override HEADS: u32 = 1u;   // 1 to 4

override SHARES: u32 = LANES / QUADS;  // of a block's values, each taken by QUADS lanes

var<workgroup> queries: array<vec4<f32>, 128>;  // [HEADS, QUADS], times the scale
var<workgroup> weights: array<vec4<f32>, 64>;   // [keys of a block]: a component a head
var<workgroup> tree: array<vec4<f32>, 64>;      // [LANES]

// What a lane has added up of a quad of four heads' values.
struct Attended {
    h0: vec4<f32>,
    h1: vec4<f32>,
    h2: vec4<f32>,
    h3: vec4<f32>,
}

fn largest_of_all(lane: u32, value: vec4<f32>) -> vec4<f32> {
    // The tree may still be read by an earlier reduction.
    workgroupBarrier();
    tree[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        // Each level reads what other lanes wrote in the level before.
        workgroupBarrier();
        if (lane < half) {
            tree[lane] = max(tree[lane], tree[lane + half]);
        }
    }
    // Lane 0 has written the maximum.
    workgroupBarrier();
    return tree[0];
}

fn sum_of_all(lane: u32, value: vec4<f32>) -> vec4<f32> {
    // The tree may still be read by an earlier reduction.
    workgroupBarrier();
    tree[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        // Each level reads what other lanes wrote in the level before.
        workgroupBarrier();
        if (lane < half) {
            tree[lane] += tree[lane + half];
        }
    }
    // Lane 0 has written the sum.
    workgroupBarrier();
    return tree[0];
}

fn total(sums: vec4<f32>) -> f32 {
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// The scores of a key by each of the heads.
fn scores_of(key: u32) -> vec4<f32> {
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        let k = widened(cache[key + quad]);
        s0 = fma(queries[quad], k, s0);
        if (HEADS > 1u) {
            s1 = fma(queries[QUADS + quad], k, s1);
        }
        if (HEADS > 2u) {
            s2 = fma(queries[2u * QUADS + quad], k, s2);
        }
        if (HEADS > 3u) {
            s3 = fma(queries[3u * QUADS + quad], k, s3);
        }
    }
    return vec4(total(s0), total(s1), total(s2), total(s3));
}

fn add_value(sums: Attended, v: vec4<f32>, weight: vec4<f32>) -> Attended {
    var result = sums;
    result.h0 = fma(vec4(weight.x), v, sums.h0);
    if (HEADS > 1u) {
        result.h1 = fma(vec4(weight.y), v, sums.h1);
    }
    if (HEADS > 2u) {
        result.h2 = fma(vec4(weight.z), v, sums.h2);
    }
    if (HEADS > 3u) {
        result.h3 = fma(vec4(weight.w), v, sums.h3);
    }
    return result;
}

fn grown(sums: Attended, factor: vec4<f32>) -> Attended {
    return Attended(
        sums.h0 * factor.x,
        sums.h1 * factor.y,
        sums.h2 * factor.z,
        sums.h3 * factor.w,
    );
}

// Adds up what the shares have of one head, and stores it.
fn store_head(lane: u32, row: u32, head: u32, share: vec4<f32>, sum: f32) {
    // The tree may still be read by the head before.
    workgroupBarrier();
    tree[lane] = share;
    // All shares are there.
    workgroupBarrier();
    if (lane >= QUADS || head >= params.num_heads) {
        return;
    }
    var attended = tree[lane];
    for (var i = 1u; i < SHARES; i++) {
        attended += tree[i * QUADS + lane];
    }
    // The largest score's weight is one; a row without a sequence has no sum.
    attended /= max(sum, 1.0);
    let at = (row * params.output_stride + head * HEAD_DIM + lane * 4u) / 2u;
    output[at] = pair_of(attended.xy);
    if (lane * 4u + 2u < HEAD_DIM) {
        output[at + 1u] = pair_of(attended.zw);
    }
}

fn stage_queries(lane: u32, row: u32, head0: u32, end: u32) {
    for (var i = lane; i < HEADS * QUADS; i += LANES) {
        let head = min(head0 + i / QUADS, end - 1u);
        queries[i] = widened(cached_quad(row, head * HEAD_DIM, i % QUADS)) * params.scale;
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.x;
    let row = group.y;
    let kept = keep_newest(row, kv_head, lane, LANES);
    // The row's own key and value are where the others are.
    storageBarrier();
    let quad = lane % QUADS;
    let share = lane / QUADS;
    let end = (kv_head + 1u) * (params.num_heads / params.num_kv_heads);
    for (var head0 = end - params.num_heads / params.num_kv_heads; head0 < end; head0 += HEADS) {
        // Every lane is done with the queries before.
        workgroupBarrier();
        stage_queries(lane, row, head0, end);
        // The queries are whole.
        workgroupBarrier();
        var largest = vec4(MOST_NEGATIVE);
        var sum = vec4(0.0);
        var attended: Attended;
        attended = Attended();
        for (var key0 = 0u; key0 < kept.taken; key0 += LANES) {
            let key = key0 + lane;
            var scores = vec4(MOST_NEGATIVE);
            if (key < kept.taken) {
                scores = scores_of(kept.keys + key * QUADS);
            }
            let before = largest;
            largest = max(before, largest_of_all(lane, scores));
            let factor = exp(before - largest);
            let weight = select(vec4(0.0), exp(scores - largest), key < kept.taken);
            sum = fma(sum, factor, weight);
            weights[lane] = weight;
            // The block's weights are whole.
            workgroupBarrier();
            attended = grown(attended, factor);
            if (share < SHARES) {
                for (var i = share; i < min(LANES, kept.taken - key0); i += SHARES) {
                    let v = widened(cache[kept.values + (key0 + i) * QUADS + quad]);
                    attended = add_value(attended, v, weights[i]);
                }
            }
        }
        let sums = sum_of_all(lane, sum);
        store_head(lane, row, head0, attended.h0, sums.x);
        if (HEADS > 1u) {
            store_head(lane, row, select(params.num_heads, head0 + 1u, head0 + 1u < end), attended.h1, sums.y);
        }
        if (HEADS > 2u) {
            store_head(lane, row, select(params.num_heads, head0 + 2u, head0 + 2u < end), attended.h2, sums.z);
        }
        if (HEADS > 3u) {
            store_head(lane, row, select(params.num_heads, head0 + 3u, head0 + 3u < end), attended.h3, sums.w);
        }
    }
}
