// Attention by subgroups of eight lanes: a lane computes ROWS neighbouring rows, and loads one of
// eight rows that they meet, which it hands to the others.
// Loops over what others have loaded have ends that compilers do not know, since drivers that run
// shaders on the CPU spill the more registers the more of them is written out.
// Joined with subgroup_lanes.wgsl.
override ROWS: u32 = 2u;

// Position of one of a lane's rows. Past the end it is the last one, since other lanes need what
// this one loads.
fn position_of(group: u32, lane: u32, r: u32) -> u32 {
    return min((group * LANES + lane) * ROWS + r, params.time - 1u);
}

fn is_past_end(group: u32, lane: u32, r: u32) -> bool {
    return (group * LANES + lane) * ROWS + r >= params.time;
}
