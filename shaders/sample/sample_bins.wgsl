// Sums of 64 bits, whose order does not matter, and the bin where a running sum reaches a target.
alias Wide = vec2<u32>;  // low and high word

// A bin for each lane of the workgroup, in groups: a lane finds a bin in looking at all groups, and then at
// the bins of one.
const BINS: u32 = 256u;
const GROUP: u32 = 16u;

var<workgroup> low_bins: array<atomic<u32>, BINS>;
var<workgroup> high_bins: array<atomic<u32>, BINS>;
var<workgroup> group_sums: array<vec2<u32>, GROUP>;

fn wide_sum(a: Wide, b: Wide) -> Wide {
    let low = a.x + b.x;
    return Wide(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn wide_difference(a: Wide, b: Wide) -> Wide {
    return Wide(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn is_less(a: Wide, b: Wide) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn wide_product(x: u32, y: u32) -> Wide {
    let low = (x & 0xffffu) * (y & 0xffffu);
    let mid1 = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
    let mid2 = (x & 0xffffu) * (y >> 16u) + (mid1 & 0xffffu);
    return Wide(x * y, (x >> 16u) * (y >> 16u) + (mid1 >> 16u) + (mid2 >> 16u));
}

// `share` of `total` in units of 2^-64, rounded down, and whether that left a rest.
struct Portion {
    whole: Wide,
    has_rest: bool,
}

fn portion(total: Wide, share: Wide) -> Portion {
    let lowest = wide_product(total.x, share.x);
    let cross1 = wide_product(total.x, share.y);
    let cross2 = wide_product(total.y, share.x);
    let middle = wide_sum(wide_sum(Wide(lowest.y, 0u), Wide(cross1.x, 0u)), Wide(cross2.x, 0u));
    let upper = wide_sum(wide_sum(Wide(cross1.y, 0u), Wide(cross2.y, 0u)), Wide(middle.y, 0u));
    let whole = wide_sum(wide_product(total.y, share.y), upper);
    return Portion(whole, (lowest.x | middle.x) != 0u);
}

fn clear_bins(lane: u32) {
    // Other lanes may still look at the bins.
    workgroupBarrier();
    atomicStore(&low_bins[lane], 0u);
    atomicStore(&high_bins[lane], 0u);
    // The bins are empty.
    workgroupBarrier();
}

fn add_to_bin(bin: u32, value: Wide) {
    let before = atomicAdd(&low_bins[bin], value.x);
    // Each addition carries by itself, in whatever order they come.
    let high = value.y + select(0u, 1u, before + value.x < before);
    if (high != 0u) {
        atomicAdd(&high_bins[bin], high);
    }
}

fn bin_sum(bin: u32) -> Wide {
    return Wide(atomicLoad(&low_bins[bin]), atomicLoad(&high_bins[bin]));
}

// Adds the bins up by groups, and gives the total.
fn sum_bins(lane: u32) -> Wide {
    // The bins are whole, and the groups of the time before are no longer looked at.
    workgroupBarrier();
    if (lane < GROUP) {
        var sum = Wide(0u);
        for (var i = 0u; i < GROUP; i++) {
            sum = wide_sum(sum, bin_sum(lane * GROUP + i));
        }
        group_sums[lane] = sum;
    }
    // The groups are whole.
    workgroupBarrier();
    var total = Wide(0u);
    for (var group = 0u; group < GROUP; group++) {
        total = wide_sum(total, group_sums[group]);
    }
    return total;
}

struct Found {
    bin: u32,
    before: Wide,  // sum of the bins before it
}

// The first bin that makes the running sum reach `target`, which is positive and at most the total.
fn find_bin(target_sum: Wide) -> Found {
    var before = Wide(0u);
    var group = 0u;
    while (group + 1u < GROUP && is_less(wide_sum(before, group_sums[group]), target_sum)) {
        before = wide_sum(before, group_sums[group]);
        group++;
    }
    var bin = group * GROUP;
    while (bin + 1u < BINS && is_less(wide_sum(before, bin_sum(bin)), target_sum)) {
        before = wide_sum(before, bin_sum(bin));
        bin++;
    }
    return Found(bin, before);
}
