// Stores cooperative matrices by way of workgroup memory, where an epilogue meets their elements: two
// neighbours of each subgroup at a time. The kernel's own file declares LANES and PART, the rows and columns
// that a subgroup computes; four of them make a tile.
// Joined with cooperative_16.wgsl or cooperative_8.wgsl, matmul_store_f16.wgsl.
const SUMS_PITCH: u32 = 2u * SIDE + 4u;

// The last place is for subgroups past the fourth, which compute what others store.
var<workgroup> sums_tile: array<f32, 5u * SIDE * SUMS_PITCH>;

// What a workgroup and a lane of it store.
struct Place {
    split: u32,
    row0: u32,
    col0: u32,
    lane: u32,
    part: u32,
}

// Stores the same two neighbouring matrices of each subgroup's part.
fn store_pair(place: Place, left: Sums, right: Sums, row: u32, col: u32) {
    // Every lane is done with the pair before.
    workgroupBarrier();
    let left_at = place.part * SIDE * SUMS_PITCH;
    let right_at = left_at + SIDE;
    let pitch = SUMS_PITCH;
    coopStoreT(left, &sums_tile[left_at], pitch);
    coopStoreT(right, &sums_tile[right_at], pitch);
    // The pair is whole.
    workgroupBarrier();
    const ROW_QUADS = SIDE / 2u;
    for (var i = place.lane; i < 4u * SIDE * ROW_QUADS; i += LANES) {
        let quad = i % ROW_QUADS * 4u;
        let line = i / ROW_QUADS;  // of the four parts' rows
        let part = line / SIDE;
        let at = line * SUMS_PITCH + quad;
        let sums = vec4(sums_tile[at], sums_tile[at + 1u], sums_tile[at + 2u], sums_tile[at + 3u]);
        let output_row = place.row0 + part / 2u * PART + row * SIDE + line % SIDE;
        let output_col = place.col0 + part % 2u * PART + col * SIDE + quad;
        store_quad(place.split, output_row, output_col, sums);
    }
}
