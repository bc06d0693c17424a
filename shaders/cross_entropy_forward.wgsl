// Cross-entropy in nats of a chunk of rows, and its gradient in place of the logits:
// loss = log(sum(exp(logits))) - logits[target]; d_logits = (softmax - onehot) * scale.
// A row whose target is IGNORED has neither loss nor gradient.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, most_negative.wgsl, reduce_max.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,  // elements of a row
    row_stride: u32,  // elements from one row to the next
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;           // [rows]
@group(0) @binding(2) var<storage, read_write> logits: array<Element>;  // [rows, vocab], then d_logits
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;      // [rows]

override WORKGROUP_SIZE: u32 = 64u;
override WRITE_GRADIENT: bool = true;
const IGNORED: u32 = 0xffffffffu;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    if (row >= params.rows) {
        return;
    }
    let base = row * params.row_stride;
    let target_id = targets[row];
    // Running maximum, and the sum of exponentials relative to it (Milakov and Gimelshein 2018).
    var largest = MOST_NEGATIVE;
    var sum = 0.0;
    for (var col = lane; col < params.vocab_size; col += WORKGROUP_SIZE) {
        let x = logits[base + col];
        let next = max(largest, largest_of(x));
        sum = sum * exp(largest - next) + total(exp(x - next));
        largest = next;
    }
    let row_largest = reduce_max(lane, largest);
    let row_sum = reduce_sum(lane, sum * exp(largest - row_largest));
    if (lane == 0u) {
        if (target_id == IGNORED) {
            losses[row] = 0.0;
        } else {
            let target_logit = word_of(logits[base + target_id / WIDTH], target_id % WIDTH);
            losses[row] = log(row_sum) + (row_largest - target_logit);
        }
    }
    if (WRITE_GRADIENT) {
        // Lane 0 has read the target's logit before any lane overwrites it.
        storageBarrier();
        let scale = select(params.scale, 0.0, target_id == IGNORED);
        for (var col = lane; col < params.vocab_size; col += WORKGROUP_SIZE) {
            let probability = exp(logits[base + col] - row_largest) / row_sum;
            let one_hot = select(Element(), Element(1.0), columns_of(col) == Columns(target_id));
            logits[base + col] = (probability - one_hot) * scale;
        }
    }
}
