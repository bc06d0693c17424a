// A row of whole quads kept by a subgroup of eight lanes: quad q is the (q / 8)th of lane q % 8.
// Mesa writes out a loop of any length whose turns are the elements of an array, but no more than 32
// of them: so every loop over a row goes to the end, and `is_kept` says which turns do something. In
// a loop that stays one, each access to the array is a gather.
// Joined with subgroup_lanes.wgsl.
const MOST_QUADS: u32 = 32u;
alias Row = array<vec4<f32>, MOST_QUADS>;

override QUADS_A_LANE: u32 = 1u;
// Whether lanes lack their last quad, where a row is no multiple of eight quads.
override RAGGED: bool = true;

fn is_kept(i: u32) -> bool {
    return i < QUADS_A_LANE;
}

fn is_own(lane: u32, i: u32) -> bool {
    return !RAGGED || i + 1u < QUADS_A_LANE || i * LANES + lane < params.quads;
}

// A quad's place in its row; the row's last for lanes that have no such quad, which costs less than
// a branch.
fn quad_of(lane: u32, i: u32) -> u32 {
    let quad = i * LANES + lane;
    if (RAGGED) {
        return min(quad, params.quads - 1u);
    }
    return quad;
}

// What was loaded from `quad_of`, or zero.
fn own(lane: u32, i: u32, loaded: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), loaded, is_own(lane, i));
}

// Zero, since the grid has one row, but no compiler knows. Where two products are added, llvmpipe
// rounds only one of them before, and bounds checks decide which: a sum that begins with a number
// that is no product adds one at a time.
fn zero(group: vec3<u32>) -> f32 {
    return f32(group.y);
}

// By shuffles: there `subgroupAdd` takes longer.
fn sum_of_lanes(quad: vec4<f32>) -> f32 {
    var sum = (quad.x + quad.y) + (quad.z + quad.w);
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    return sum + subgroupShuffleXor(sum, 4u);
}
