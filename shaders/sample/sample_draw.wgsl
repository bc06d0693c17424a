// Draws one token of each row in proportion to its mass: the first id whose running sum exceeds a uniform
// number times the total. A row without any mass gives NO_TOKEN, one with a NaN gives NAN_ROW.
// Joined with falling_order.wgsl, sample_bins.wgsl, sample_mass.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    stream: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> kept: array<u32>;          // [rows, vocab], floats
@group(0) @binding(2) var<storage, read> settings: array<u32>;      // [rows, SETTINGS]
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;  // [rows]

const NO_TOKEN: u32 = 0xffffffffu;
const NAN_ROW: u32 = 0xfffffffeu;

@compute @workgroup_size(BINS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab_size;
    let at = group.x * SETTINGS;
    let scale = vec2(settings[at], settings[at + 1u]);
    let largest = largest_order(lane, base);
    // The ids [first, end) hold the token; each bin has the next `share` of them.
    var first = 0u;
    var end = params.vocab_size;
    var left = Wide(0u);
    var is_empty = false;
    var share = params.vocab_size;
    loop {
        let is_whole = share == params.vocab_size;
        share = (share + BINS - 1u) / BINS;
        clear_bins(lane);
        let begin = min(first + lane * share, end);
        var sum = Wide(0u);
        for (var id = begin; id < min(begin + share, end); id++) {
            let order = falling_order(kept[base + id]);
            sum = wide_sum(sum, mass_of(halvings(order, largest, scale)));
        }
        add_to_bin(lane, sum);
        let total = sum_bins(lane);
        if (is_whole) {
            is_empty = (total.x | total.y) == 0u;
            // 24 random bits: their product with the total, rounded down, is what has to be exceeded.
            let words = philox(
                vec4(settings[at + 11u], settings[at + 12u], params.stream, 0u),
                vec2(settings[at + 9u], settings[at + 10u]),
            );
            left = wide_sum(portion(total, Wide(0u, words.x & 0xffffff00u)).whole, Wide(1u, 0u));
        }
        let found = find_bin(left);
        left = wide_difference(left, found.before);
        first += found.bin * share;
        end = min(first + share, end);
        if (share == 1u) {
            break;
        }
    }
    if (lane == 0u) {
        tokens[group.x] = select(select(first, NO_TOKEN, is_empty), NAN_ROW, largest == NAN_ORDER);
    }
}

// Philox4x32-10 (Salmon et al. 2011): four random words, a pure function of counter and key.
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let x = wide_product(0xcd9e8d57u, c.z);
        let y = wide_product(0xd2511f53u, c.x);
        c = vec4(x.y ^ c.y ^ k.x, x.x, y.y ^ c.w ^ k.y, y.x);
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
