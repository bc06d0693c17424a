// Draws one token of each row in proportion to its mass, which need not sum to one. A row without
// a positive finite mass gives NO_TOKEN.
// Joined with own_ids.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    stream: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> masses: array<f32>;        // [rows, vocab]
@group(0) @binding(2) var<storage, read> draw: array<u32>;          // seed low, seed high, counter low, counter high
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;  // [rows]

override WORKGROUP_SIZE: u32 = 64u;
const NO_TOKEN: u32 = 0xffffffffu;

var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let base = row * params.vocab_size;
    let ids = own_ids(lane, params.vocab_size);
    var sum = 0.0;
    for (var id = ids.x; id < ids.y; id++) {
        sum += masses[base + id];
    }
    sums[lane] = sum;
    // Every lane's sum is there.
    workgroupBarrier();
    if (lane != 0u) {
        return;
    }
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += sums[i];
    }
    // Row r uses counter + r; 24 bits make a uniform number that f32 holds exactly.
    let low = draw[2] + row;
    let high = draw[3] + select(0u, 1u, low < row);
    let words = philox(vec4(low, high, params.stream, 0u), vec2(draw[0], draw[1]));
    let target_mass = f32(words.x >> 8u) / 16777216.0 * total;
    var owner = 0u;
    var before = 0.0;
    while (owner + 1u < WORKGROUP_SIZE && before + sums[owner] <= target_mass) {
        before += sums[owner];
        owner++;
    }
    // Rounding may leave the target behind the last positive mass: that token is drawn then.
    var token = NO_TOKEN;
    let owned = own_ids(owner, params.vocab_size);
    for (var id = owned.x; id < owned.y; id++) {
        let mass = masses[base + id];
        if (mass > 0.0) {
            token = id;
            before += mass;
            if (before > target_mass) {
                break;
            }
        }
    }
    for (var id = owned.x; token == NO_TOKEN && id > 0u; id--) {
        if (masses[base + id - 1u] > 0.0) {
            token = id - 1u;
        }
    }
    tokens[row] = select(NO_TOKEN, token, total > 0.0 && total < 3.4e38);
}

// Philox4x32-10 (Salmon et al. 2011): four random words, a pure function of counter and key.
fn multiply_high(x: u32, y: u32) -> u32 {
    let low = (x & 0xffffu) * (y & 0xffffu);
    let mid1 = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
    let mid2 = (x & 0xffffu) * (y >> 16u) + (mid1 & 0xffffu);
    return (x >> 16u) * (y >> 16u) + (mid1 >> 16u) + (mid2 >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        c = vec4(
            multiply_high(0xcd9e8d57u, c.z) ^ c.y ^ k.x,
            0xcd9e8d57u * c.z,
            multiply_high(0xd2511f53u, c.x) ^ c.w ^ k.y,
            0xd2511f53u * c.x,
        );
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
