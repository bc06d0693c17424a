// The mass of a logit beside the row's largest, exp((logit - largest) / temperature), in integers: equal on
// every adapter, and within 2^-29 of itself down to the unit of 2^-44 of the largest's.
// Joined with falling_order.wgsl, sample_bins.wgsl.

const SETTINGS: u32 = 16u;
const FAR: Wide = Wide(0xffffffffu, 0xffffffffu);

var<workgroup> first_order: atomic<u32>;

// The order of the row's largest logit.
fn largest_order(lane: u32, base: u32) -> u32 {
    // It may still be read by an earlier search.
    workgroupBarrier();
    if (lane == 0u) {
        atomicStore(&first_order, 0xffffffffu);
    }
    // It is there to be lowered.
    workgroupBarrier();
    var first = 0xffffffffu;
    for (var id = lane; id < params.vocab_size; id += BINS) {
        first = min(first, falling_order(kept[base + id]));
    }
    atomicMin(&first_order, first);
    // Every lane has lowered it.
    workgroupBarrier();
    return atomicLoad(&first_order);
}

// A finite float as a 63-bit integer in units of 2^(exponent - 189).
struct Aligned {
    exponent: u32,
    significand: u32,
}

fn aligned(bits: u32) -> Aligned {
    let exponent = (bits >> 23u) & 0xffu;
    let fraction = bits & 0x7fffffu;
    return Aligned(max(exponent, 1u), select(fraction | 0x800000u, fraction, exponent == 0u) << 7u);
}

fn shifted_right(value: Wide, by: u32) -> Wide {
    if (by == 0u) {
        return value;
    }
    if (by < 32u) {
        return Wide((value.x >> by) | (value.y << (32u - by)), value.y >> by);
    }
    return Wide(select(value.y >> (by & 31u), 0u, by >= 64u), 0u);
}

// How far a logit lies below the largest, divided by the temperature, in halvings of its mass: 32 bits of
// fraction, never zero but for equal logits, FAR where nothing is left of it. `scale` is mantissa and
// exponent of log2(e) / temperature.
fn halvings(order: u32, largest: u32, scale: vec2<u32>) -> Wide {
    if (order >= NEGATIVE_INFINITY) {
        return FAR;
    }
    if (order == largest || largest <= INFINITY_ORDER) {
        return select(FAR, Wide(0u), order == largest);
    }
    let high = aligned(bits_of_order(largest));
    let low = aligned(bits_of_order(order));
    let exponent = max(high.exponent, low.exponent);
    let a = shifted_right(Wide(0u, high.significand), min(exponent - high.exponent, 64u));
    let b = shifted_right(Wide(0u, low.significand), min(exponent - low.exponent, 64u));
    var below = wide_sum(a, b);
    if ((largest ^ order) < 0x80000000u) {
        below = wide_difference(a, b);
        if (largest >= 0x80000000u) {
            below = wide_difference(b, a);
        }
    }
    let zeros = select(countLeadingZeros(below.y), 32u + countLeadingZeros(below.x), below.y == 0u);
    let word = shifted_right(below, 32u - min(zeros, 32u)).x << (max(zeros, 32u) - 32u);
    let by = 125 + i32(zeros) - i32(exponent) - bitcast<i32>(scale.y);
    if (by <= 0) {
        return FAR;
    }
    let found = shifted_right(wide_product(word, scale.x), u32(min(by, 64)));
    return Wide(select(found.x, 1u, (found.x | found.y) == 0u), found.y);
}

// 2^-halvings in units of 2^-44.
fn mass_of(halved: Wide) -> Wide {
    if (halved.y >= 45u) {
        return Wide(0u);
    }
    // A polynomial that equals 2^-f at the Chebyshev nodes of [0, 1] and at 0, with 32 bits of fraction.
    let f = halved.x;
    var p = 0x9c200u - wide_product(f, 0xbda6u).y;
    p = 0x5728b0u - wide_product(f, p).y;
    p = 0x27641a9u - wide_product(f, p).y;
    p = 0xe358127u - wide_product(f, p).y;
    p = 0x3d7f7bcbu - wide_product(f, p).y;
    p = 0xb17217f7u - wide_product(f, p).y;
    let mantissa = 0x80000000u - ((wide_product(f, p).y + 1u) >> 1u);
    if (halved.y > 13u) {
        let by = halved.y - 13u;
        return Wide((mantissa + (1u << (by - 1u))) >> by, 0u);
    }
    return shifted_right(Wide(0u, mantissa), 19u + halved.y);
}
