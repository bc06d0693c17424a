// Log-probabilities of a row's token and of its likeliest tokens, lowest id first among equals:
// logits - log(sum(exp(logits))). Infinities and NaN are told by their bits, since compilers may take
// floats for finite.
// Joined with falling_order.wgsl, flat_workgroup.wgsl, reduce_sum.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    row_stride: u32,  // of the logits: words from one row to the next
    top: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;           // [rows, vocab], floats
@group(0) @binding(2) var<storage, read> tokens: array<u32>;           // [rows]
// [rows, 1 + 2 * top]: the token's log-probability, then ids, then their log-probabilities
@group(0) @binding(3) var<storage, read_write> logprobs: array<u32>;

const WORKGROUP_SIZE: u32 = 256u;
const GROUP: u32 = 16u;
// Terms of the sum that a lane adds up before it adds them to those before.
const TERMS: u32 = 16u;
const NAN: u32 = 0x7fc00000u;

// A token's place among all: its `falling_order`, then its id.
alias Place = vec2<u32>;
const BEHIND_ALL: Place = Place(0xffffffffu, 0xffffffffu);

var<workgroup> lane_firsts: array<vec2<u32>, WORKGROUP_SIZE>;
var<workgroup> group_firsts: array<vec2<u32>, GROUP>;

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
    let at = row * (1u + 2u * params.top);
    var own = first_of_lane(lane, base, Place(0u));
    var first = first_of_all(lane, own);
    // A NaN or an infinity, or nothing that has any probability.
    let is_none = first.x <= INFINITY_ORDER || first.x >= NEGATIVE_INFINITY;
    let largest = bitcast<f32>(bits_of_order(first.x));
    let log_sum = log(reduce_sum(lane, sum_of_lane(lane, base, largest)));
    if (lane == 0u) {
        let token = tokens[row];
        var bits = NAN;
        if (!is_none && token < params.vocab_size) {
            bits = logprob(logits[base + token], largest, log_sum);
        }
        logprobs[at] = bits;
    }
    for (var i = 0u; i < params.top; i++) {
        if (lane == 0u) {
            let bits = logprob(bits_of_order(first.x), largest, log_sum);
            logprobs[at + 1u + i] = select(first.y, BEHIND_ALL.y, is_none);
            logprobs[at + 1u + params.top + i] = select(bits, NAN, is_none);
        }
        if (i + 1u < params.top) {
            if (all(own == first)) {
                own = first_of_lane(lane, base, Place(first.x, first.y + 1u));
            }
            first = first_of_all(lane, own);
        }
    }
}

fn logprob(bits: u32, largest: f32, log_sum: f32) -> u32 {
    let finite = bitcast<u32>((bitcast<f32>(bits) - largest) - log_sum);
    return select(finite, NEGATIVE_INFINITY, bits >= NEGATIVE_INFINITY);
}

// The sum of a lane's exponentials relative to the largest logit.
fn sum_of_lane(lane: u32, base: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var start = lane; start < params.vocab_size; start += TERMS * WORKGROUP_SIZE) {
        var part = 0.0;
        let end = min(params.vocab_size, start + TERMS * WORKGROUP_SIZE);
        for (var id = start; id < end; id += WORKGROUP_SIZE) {
            let bits = logits[base + id];
            part += select(exp(bitcast<f32>(bits) - largest), 0.0, bits == NEGATIVE_INFINITY);
        }
        sum += part;
    }
    return sum;
}

fn is_before(a: Place, b: Place) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

// The first of a lane's tokens that is not before `start`.
fn first_of_lane(lane: u32, base: u32, start: Place) -> Place {
    var first = BEHIND_ALL;
    for (var id = lane; id < params.vocab_size; id += WORKGROUP_SIZE) {
        let place = Place(falling_order(logits[base + id]), id);
        if (is_before(place, first) && !is_before(place, start)) {
            first = place;
        }
    }
    return first;
}

// The first of all lanes' places.
fn first_of_all(lane: u32, own: Place) -> Place {
    // The lanes' places of the time before were read before the groups' were whole.
    lane_firsts[lane] = own;
    // Every lane has a place, and the groups' of the time before are no longer read.
    workgroupBarrier();
    if (lane < GROUP) {
        var first = BEHIND_ALL;
        for (var i = 0u; i < WORKGROUP_SIZE / GROUP; i++) {
            let place = lane_firsts[lane * (WORKGROUP_SIZE / GROUP) + i];
            first = select(first, place, is_before(place, first));
        }
        group_firsts[lane] = first;
    }
    // The groups' are whole.
    workgroupBarrier();
    var first = BEHIND_ALL;
    for (var group = 0u; group < GROUP; group++) {
        let place = group_firsts[group];
        first = select(first, place, is_before(place, first));
    }
    return first;
}
