// Cross-entropy in nats of a chunk of rows, and its gradient in place of the logits:
// loss = log(sum(exp(logits))) - logits[target]; d_logits = (softmax - onehot) * scale[0].
// A row whose target is IGNORED has neither loss nor gradient.
// Joined with elements_words.wgsl or elements_quads.wgsl, flat_workgroup.wgsl, half_bits.wgsl, most_negative.wgsl.
// Joined with reduce_max.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,   // columns
    row_stride: u32,   // elements from one row to the next
    half_stride: u32,  // of the 2-byte floats: quads from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;           // [rows]
@group(0) @binding(2) var<storage, read_write> logits: array<Element>;  // [rows, vocab], then d_logits
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;      // [rows]
@group(0) @binding(4) var<storage, read> scale: array<f32>;               // [1], read if WRITE_GRADIENT
@group(0) @binding(5) var<storage, read> factor: array<f32>;              // [1], read if HALVES
@group(0) @binding(6) var<storage, read_write> halves: array<vec2<u32>>;  // d_logits times the factor if HALVES, four a place

override WORKGROUP_SIZE: u32 = 64u;
override WRITE_GRADIENT: bool = true;
// Whether the gradient is of 2-byte floats, and the logits stay; for rows of whole quads.
override HALVES: bool = false;
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
    let elements = (params.vocab_size + WIDTH - 1u) / WIDTH;
    for (var col = lane; col < elements; col += WORKGROUP_SIZE) {
        let is_column = columns_of(col) < Columns(params.vocab_size);
        let x = select(Element(MOST_NEGATIVE), logits[base + col], is_column);
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
        let row_scale = select(scale[0], 0.0, target_id == IGNORED);
        for (var col = lane; col < elements; col += WORKGROUP_SIZE) {
            let probability = exp(logits[base + col] - row_largest) / row_sum;
            let one_hot = select(Element(), Element(1.0), columns_of(col) == Columns(target_id));
            let gradient = (probability - one_hot) * row_scale;
            if (HALVES) {
                halves[row * params.half_stride + col] = packed_halves(quad_of(gradient * factor[0]));
            } else {
                logits[base + col] = gradient;
            }
        }
    }
}
