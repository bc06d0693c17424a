// Nucleus filter (Holtzman et al. 2020): in order of falling probability, lowest id first among
// equals, a token stays while the mass before it is under p; the others become zero.
// Joined with own_ids.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    top_p: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> probabilities: array<f32>;  // [rows, vocab]
@group(0) @binding(2) var<storage, read_write> kept: array<f32>;     // [rows, vocab]

override WORKGROUP_SIZE: u32 = 64u;

var<workgroup> masses: array<f32, WORKGROUP_SIZE>;
var<workgroup> ties: array<u32, WORKGROUP_SIZE>;

// Mass of the probabilities over `threshold`; the bits of a float that is not negative order as
// it does.
fn mass_over(lane: u32, base: u32, ids: vec2<u32>, threshold: u32) -> f32 {
    var mass = 0.0;
    for (var id = ids.x; id < ids.y; id++) {
        let p = probabilities[base + id];
        mass += select(0.0, p, bitcast<u32>(p) > threshold);
    }
    // The masses of the call before have been read.
    workgroupBarrier();
    masses[lane] = mass;
    // The masses of this call are whole.
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += masses[i];
    }
    return total;
}

fn ties_before(lane: u32, base: u32, ids: vec2<u32>, threshold: u32) -> u32 {
    var count = 0u;
    for (var id = ids.x; id < ids.y; id++) {
        count += select(0u, 1u, bitcast<u32>(probabilities[base + id]) == threshold);
    }
    ties[lane] = count;
    // Every lane's count is there.
    workgroupBarrier();
    var before = 0u;
    for (var i = 0u; i < lane; i++) {
        before += ties[i];
    }
    return before;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab_size;
    let ids = own_ids(lane, params.vocab_size);
    // The smallest threshold that leaves a mass under p above it: one less than the largest that
    // does not, found bit by bit from the top.
    var enough = 0u;
    var found = mass_over(lane, base, ids, 0u) >= params.top_p;
    for (var bit = 0x40000000u; bit > 0u; bit >>= 1u) {
        if (mass_over(lane, base, ids, enough | bit) >= params.top_p) {
            enough |= bit;
            found = true;
        }
    }
    let threshold = select(0u, enough + 1u, found);
    let mass_above = mass_over(lane, base, ids, threshold);
    var rank = ties_before(lane, base, ids, threshold);
    for (var id = ids.x; id < ids.y; id++) {
        let p = probabilities[base + id];
        let bits = bitcast<u32>(p);
        let tie = bits == threshold;
        let mass_before = mass_above + f32(rank) * p;
        let keep = bits > threshold || (tie && mass_before < params.top_p);
        rank += select(0u, 1u, tie);
        kept[base + id] = select(0.0, p, keep);
    }
}
