// Which tokens of each row may be drawn: the others' logits become minus infinity. In the order of Hugging
// Face's processors: repetition penalty (Keskar et al. 2019, CTRL), temperature, top-k, top-p (Holtzman et
// al. 2020), min-p (Nguyen et al. 2024). Each keeps a beginning of the order of falling logits, lowest id
// first among equals; its end is found by the digits of that order.
// Joined with falling_order.wgsl, sample_bins.wgsl, sample_mass.wgsl.
struct Params {
    rows: u32,
    vocab_size: u32,
    context_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;      // [rows, vocab], floats
@group(0) @binding(2) var<storage, read> settings: array<u32>;    // [rows, SETTINGS]
@group(0) @binding(3) var<storage, read> context: array<u32>;     // [rows, context_stride], ids
@group(0) @binding(4) var<storage, read_write> kept: array<u32>;  // [rows, vocab], floats

const ALL: u32 = 0xffffffffu;
const ONE: u32 = 0x3f800000u;
// What marks a token of the context until its logit is there: a NaN, which a penalty leaves as it is.
const SEEN: u32 = 0x7fffffffu;

// What ends a filter's search.
const BY_COUNT: u32 = 0u;
const BY_MASS: u32 = 1u;
const BY_ID: u32 = 2u;

// What is kept: all before `order`, and the first `ties` of those at it. `is_split` where others are.
struct Edge {
    order: u32,
    ties: u32,
    is_split: bool,
}

struct Row {
    base: u32,
    settings: u32,
    largest: u32,
    scale: vec2<u32>,
}

var<workgroup> is_split: u32;
var<workgroup> lowest_id: atomic<u32>;

@compute @workgroup_size(BINS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab_size;
    let at = group.x * SETTINGS;
    // An id belongs to one lane, so nothing has to wait for what another lane stores.
    for (var id = lane; id < params.vocab_size; id += BINS) {
        kept[base + id] = logits[base + id];
    }
    let penalty = settings[at + 7u];
    if (penalty != ONE) {
        let first = group.x * params.context_stride;
        let end = first + settings[at + 8u];
        for (var i = first; i < end; i++) {
            let id = context[i];
            if (id % BINS == lane) {
                kept[base + id] = SEEN;
            }
        }
        for (var id = lane; id < params.vocab_size; id += BINS) {
            if (kept[base + id] == SEEN) {
                kept[base + id] = penalised(logits[base + id], penalty, settings[at + 13u]);
            }
        }
    }
    let largest = largest_order(lane, base);
    let row = Row(base, at, largest, vec2(settings[at], settings[at + 1u]));
    // Beside an infinite logit no finite one has any mass.
    var edge = Edge(select(NEGATIVE_INFINITY, largest + 1u, largest <= INFINITY_ORDER), 0u, false);
    var last_id = ALL;
    if (settings[at + 2u] == 1u) {
        edge = Edge(largest, 1u, true);
        last_id = first_id(lane, base, largest);
    } else {
        if (settings[at + 2u] < params.vocab_size) {
            edge = narrowed(lane, row, edge, BY_COUNT);
        }
        if ((settings[at + 3u] & settings[at + 4u]) != ALL) {
            edge = narrowed(lane, row, edge, BY_MASS);
        }
        if (lane == 0u) {
            is_split = select(0u, 1u, edge.is_split);
        }
        if (workgroupUniformLoad(&is_split) != 0u) {
            last_id = narrowed(lane, row, edge, BY_ID).order;
        }
    }
    let least = Wide(settings[at + 5u], settings[at + 6u]);
    for (var id = lane; id < params.vocab_size; id += BINS) {
        let order = falling_order(kept[base + id]);
        var is_kept = order < edge.order || (order == edge.order && edge.ties > 0u && id <= last_id);
        if (is_kept && (least.x & least.y) != ALL) {
            is_kept = !is_less(least, halvings(order, largest, row.scale));
        }
        kept[base + id] = select(NEGATIVE_INFINITY, bits_of_order(order), is_kept);
    }
}

fn first_id(lane: u32, base: u32, order: u32) -> u32 {
    if (lane == 0u) {
        atomicStore(&lowest_id, ALL);
    }
    // It is there to be lowered.
    workgroupBarrier();
    for (var id = lane; id < params.vocab_size; id += BINS) {
        if (falling_order(kept[base + id]) == order) {
            atomicMin(&lowest_id, id);
            break;
        }
    }
    // Every lane has lowered it.
    workgroupBarrier();
    return atomicLoad(&lowest_id);
}

// The edge that keeps a filter's share of what `edge` keeps, digit by digit; by id, the last of the ties at
// `edge` that stays.
fn narrowed(lane: u32, row: Row, edge: Edge, by: u32) -> Edge {
    var result = 0u;
    var left = Wide(edge.ties, 0u);
    var last = Wide(0u);
    for (var shift = 32u; shift > 0u; shift -= 8u) {
        let known = select(ALL << (shift & 31u), 0u, shift == 32u);
        clear_bins(lane);
        for (var id = lane; id < params.vocab_size; id += BINS) {
            let order = falling_order(kept[row.base + id]);
            let position = select(order, id, by == BY_ID);
            let is_counted = select(order < edge.order, order == edge.order, by == BY_ID);
            if (is_counted && (position & known) == result) {
                var value = Wide(1u, 0u);
                if (by == BY_MASS) {
                    value = mass_of(halvings(order, row.largest, row.scale));
                }
                add_to_bin((position >> (shift - 8u)) & 0xffu, value);
            }
        }
        if (lane == 0u && by == BY_MASS && edge.ties > 0u && (edge.order & known) == result) {
            let value = mass_of(halvings(edge.order, row.largest, row.scale));
            add_to_bin((edge.order >> (shift - 8u)) & 0xffu, times(value, edge.ties));
        }
        let total = sum_bins(lane);
        if (shift == 32u && by == BY_COUNT) {
            left = Wide(min(settings[row.settings + 2u], total.x), 0u);
        }
        if (shift == 32u && by == BY_MASS) {
            let share = portion(total, Wide(settings[row.settings + 3u], settings[row.settings + 4u]));
            left = wide_sum(share.whole, Wide(select(0u, 1u, share.has_rest), 0u));
        }
        let found = find_bin(left);
        left = wide_difference(left, found.before);
        last = bin_sum(found.bin);
        result |= found.bin << (shift - 8u);
    }
    if (by != BY_MASS) {
        return Edge(result, left.x, is_less(left, last));
    }
    let value = mass_of(halvings(result, row.largest, row.scale));
    var ties = 0u;
    for (var bit = 1u << 19u; bit > 0u; bit >>= 1u) {
        if (is_less(times(value, ties | bit), left)) {
            ties |= bit;
        }
    }
    ties++;
    let splits = is_less(times(value, ties), last) || (result == edge.order && edge.is_split);
    return Edge(result, ties, splits);
}

fn times(value: Wide, count: u32) -> Wide {
    return wide_sum(wide_product(value.x, count), Wide(0u, value.y * count));
}

// A positive logit divided by the penalty, a negative one multiplied with it, as IEEE 754 rounds.
// `reciprocal` is 2^63 by the penalty's significand.
fn penalised(bits: u32, penalty: u32, reciprocal: u32) -> u32 {
    let sign = bits & 0x80000000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude == 0u || magnitude >= 0x7f800000u) {
        return bits;
    }
    let a = normal(magnitude);
    let b = normal(penalty);
    // 32 bits of the result's magnitude in units of 2^(exponent - 181), of which the lowest stands for
    // all below it.
    var exponent = 0;
    var word = 0u;
    if (sign != 0u) {
        let product = wide_product(a.significand, b.significand);
        let is_long = product.y >= 0x80000000u;
        let wide = select(shifted_right(product, 31u), shifted_right(product, 32u), is_long);
        let rest = select(product.x & 0x7fffffffu, product.x, is_long);
        word = wide.x | select(0u, 1u, rest != 0u);
        exponent = a.exponent + b.exponent - 127 + select(0, 1, is_long);
    } else {
        let is_short = a.significand < b.significand;
        exponent = a.exponent - b.exponent + 127 - select(0, 1, is_short);
        let by = select(1u, 0u, is_short);
        word = shifted_right(wide_product(a.significand, reciprocal), 31u + by).x;
        var rest = shifted_right(Wide(0u, a.significand), by);
        rest = wide_difference(rest, wide_product(word, b.significand));
        // The reciprocal is too small by at most one, and so is its product by at most four.
        let divisor = Wide(b.significand, 0u);
        for (var i = 0u; i < 4u; i++) {
            let goes = !is_less(rest, divisor);
            rest = select(rest, wide_difference(rest, divisor), goes);
            word += select(0u, 1u, goes);
        }
        word |= select(0u, 1u, (rest.x | rest.y) != 0u);
    }
    return sign | rounded(word, exponent);
}

// A finite float above zero as 32 bits with a leading one, and its exponent with the bias of 127.
struct Normal {
    exponent: i32,
    significand: u32,
}

fn normal(bits: u32) -> Normal {
    let exponent = bits >> 23u;
    let fraction = (bits & 0x7fffffu) << 8u;
    if (exponent > 0u) {
        return Normal(i32(exponent), fraction | 0x80000000u);
    }
    let zeros = countLeadingZeros(fraction);
    return Normal(1 - i32(zeros), fraction << zeros);
}

// The bits of a float, to the nearest even.
fn rounded(word: u32, exponent: i32) -> u32 {
    if (exponent >= 255) {
        return 0x7f800000u;
    }
    let by = u32(min(8 + max(1 - exponent, 0), 33));
    let wide = shifted_right(Wide(0u, word), by);
    let whole = wide.y;
    let is_up = wide.x > 0x80000000u || (wide.x == 0x80000000u && (whole & 1u) != 0u);
    // A carry out of the significand goes into the exponent, up to infinity.
    return (u32(max(exponent - 1, 0)) << 23u) + whole + select(0u, 1u, is_up);
}
