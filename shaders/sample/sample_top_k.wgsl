// Divides logits by the temperature and keeps the k largest of each row; the others become
// MOST_NEGATIVE. Of equal logits the lowest ids stay, so that exactly k do.
// Joined with most_negative.wgsl, own_ids.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    top_k: u32,
    temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;        // [rows, vocab]
@group(0) @binding(2) var<storage, read_write> scaled: array<f32>;  // [rows, vocab]

override WORKGROUP_SIZE: u32 = 64u;

var<workgroup> counts: array<u32, WORKGROUP_SIZE>;

// Counts keys from `threshold` up: in lanes before this one (x), and in all (y). Lanes own
// neighbouring ids, so the order of lanes is the order of ids.
fn count_reaching(lane: u32, base: u32, ids: vec2<u32>, threshold: u32) -> vec2<u32> {
    var count = 0u;
    for (var id = ids.x; id < ids.y; id++) {
        count += select(0u, 1u, order_key(logits[base + id]) >= threshold);
    }
    // The counts of the call before have been read.
    workgroupBarrier();
    counts[lane] = count;
    // The counts of this call are whole.
    workgroupBarrier();
    var result = vec2(0u);
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        result += vec2(select(0u, counts[i], i < lane), counts[i]);
    }
    return result;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab_size;
    let ids = own_ids(lane, params.vocab_size);
    // The largest key that at least k keys reach, found bit by bit from the top.
    var threshold = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        if (count_reaching(lane, base, ids, threshold | bit).y >= params.top_k) {
            threshold |= bit;
        }
    }
    // No key is all ones, so threshold + 1 does not wrap where it matters.
    let above = count_reaching(lane, base, ids, threshold + 1u);
    let reaching = count_reaching(lane, base, ids, threshold);
    var rank = above.y + reaching.x - above.x;
    for (var id = ids.x; id < ids.y; id++) {
        let logit = logits[base + id];
        let key = order_key(logit);
        let tie = key == threshold;
        let keep = key > threshold || (tie && rank < params.top_k);
        rank += select(0u, 1u, tie);
        scaled[base + id] = select(MOST_NEGATIVE, logit / params.temperature, keep);
    }
}

// An unsigned integer that orders as the float does.
fn order_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}
