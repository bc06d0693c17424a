// The largest logit of each row, the lowest id on a tie. A row of NaNs gives NO_TOKEN.
// Joined with most_negative.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;        // [rows, vocab]
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;  // [rows]

override WORKGROUP_SIZE: u32 = 64u;
const NO_TOKEN: u32 = 0xffffffffu;

var<workgroup> best_logits: array<f32, WORKGROUP_SIZE>;
var<workgroup> best_ids: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab_size;
    var best = MOST_NEGATIVE;
    var best_id = NO_TOKEN;
    for (var id = lane; id < params.vocab_size; id += WORKGROUP_SIZE) {
        if (logits[base + id] > best) {
            best = logits[base + id];
            best_id = id;
        }
    }
    best_logits[lane] = best;
    best_ids[lane] = best_id;
    // Every lane's best is there.
    workgroupBarrier();
    if (lane == 0u) {
        for (var i = 1u; i < WORKGROUP_SIZE; i++) {
            if (best_logits[i] > best || (best_logits[i] == best && best_ids[i] < best_id)) {
                best = best_logits[i];
                best_id = best_ids[i];
            }
        }
        tokens[group.x] = best_id;
    }
}
