// A row of whole quads held by a subgroup of eight lanes: quad q is the (q / 8)th of lane q % 8.
const LANES: u32 = 8u;
const MOST_QUADS: u32 = 32u;

// Loops over it end at a constant of the pipeline, so that the driver writes them out: in a loop
// that stays, every access is a gather.
alias Row = array<vec4<f32>, MOST_QUADS>;

override QUADS_A_LANE: u32 = 1u;
// Whether lanes lack their last quad, where a row is no multiple of eight quads.
override RAGGED: bool = true;

fn is_own(lane: u32, i: u32) -> bool {
    return !RAGGED || i + 1u < QUADS_A_LANE || i * LANES + lane < params.quads;
}

// A quad's place in its row; the row's last for lanes that have no such quad.
fn quad_of(lane: u32, i: u32) -> u32 {
    let quad = i * LANES + lane;
    if (RAGGED && i + 1u == QUADS_A_LANE) {
        return min(quad, params.quads - 1u);
    }
    return quad;
}

// What was loaded from `quad_of`, or zero. A masked load would cost more.
fn own(lane: u32, i: u32, loaded: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), loaded, is_own(lane, i));
}

fn sum_of_lanes(quad: vec4<f32>) -> f32 {
    return subgroupAdd((quad.x + quad.y) + (quad.z + quad.w));
}
