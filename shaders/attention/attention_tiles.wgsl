// Products of tiles in workgroup memory: 64 rows by 32 columns, a lane 4x4 of them. Operands come in
// chunks of eight quads of a head; a tile of scores takes the place of the rows' chunk.
// The kernel's own file declares HEAD_DIM.
// Joined with attention_head_quad.wgsl.
override CHUNKS: u32 = (QUADS + 7u) / 8u;

const LANES_X: u32 = 8u;
const LANES_Y: u32 = 16u;
const TILE_ROWS: u32 = 64u;
const TILE_COLS: u32 = 32u;
const CHUNK: u32 = 8u;
// Quads from one row of a tile to the next: one more than a chunk, so that lanes which read eight
// rows at once meet different banks.
const PITCH: u32 = 9u;

var<workgroup> row_tile: array<vec4<f32>, 576>;  // [TILE_ROWS, PITCH]
var<workgroup> col_tile: array<vec4<f32>, 288>;  // [TILE_COLS, PITCH], column 4 x + j at 8 j + x

// A lane and its workgroup's part of the work.
struct Place {
    local: vec3<u32>,
    lane: u32,
    sequence: u32,
    head: u32,
    kv_head: u32,
    row0: u32,  // position of the tile's first row
}

// Where a lane puts the quads that it loads of a chunk: 16 rows of eight quads are loaded at once.
fn row_slot(lane: u32, turn: u32) -> u32 {
    return (turn * 16u + lane / CHUNK) * PITCH + lane % CHUNK;
}

fn col_slot(lane: u32, turn: u32) -> u32 {
    let col = turn * 16u + lane / CHUNK;
    return (col % 4u * 8u + col / 4u) * PITCH + lane % CHUNK;
}

// sums[i][j] += row y + 16 i of the rows' chunk . column 4 x + j of the columns'. Two quads a turn;
// a chunk has zeros behind a head's last quad.
fn add_dots(sums: ptr<function, array<vec4<f32>, 4>>, local: vec3<u32>, quads: u32) {
    for (var q = 0u; q < quads; q += 2u) {
        add_dots_of_quad(sums, local.y * PITCH + q, local.x * PITCH + q);
        add_dots_of_quad(sums, local.y * PITCH + q + 1u, local.x * PITCH + q + 1u);
    }
}

fn add_dots_of_quad(sums: ptr<function, array<vec4<f32>, 4>>, row: u32, col: u32) {
    let c0 = col_tile[col];
    let c1 = col_tile[col + 8u * PITCH];
    let c2 = col_tile[col + 16u * PITCH];
    let c3 = col_tile[col + 24u * PITCH];
    let x = vec4(c0.x, c1.x, c2.x, c3.x);
    let y = vec4(c0.y, c1.y, c2.y, c3.y);
    let z = vec4(c0.z, c1.z, c2.z, c3.z);
    let w = vec4(c0.w, c1.w, c2.w, c3.w);
    add_rows(sums, row, x, y, z, w);
}

// sums[i] += row y + 16 i of the tile of scores times quad x of the columns' chunk, over the first
// columns, eight a turn.
fn add_weighted(sums: ptr<function, array<vec4<f32>, 4>>, local: vec3<u32>, quads: u32) {
    for (var q = 0u; q < quads; q += 2u) {
        add_weighted_of_quad(sums, local.y * PITCH + q, q * PITCH + local.x);
        add_weighted_of_quad(sums, local.y * PITCH + q + 1u, (q + 1u) * PITCH + local.x);
    }
}

fn add_weighted_of_quad(sums: ptr<function, array<vec4<f32>, 4>>, row: u32, col: u32) {
    let x = col_tile[col];
    let y = col_tile[col + 8u * PITCH];
    let z = col_tile[col + 16u * PITCH];
    let w = col_tile[col + 24u * PITCH];
    add_rows(sums, row, x, y, z, w);
}

fn add_rows(
    sums: ptr<function, array<vec4<f32>, 4>>,
    row: u32,
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
) {
    (*sums)[0] = add_four((*sums)[0], row_tile[row], x, y, z, w);
    (*sums)[1] = add_four((*sums)[1], row_tile[row + 16u * PITCH], x, y, z, w);
    (*sums)[2] = add_four((*sums)[2], row_tile[row + 32u * PITCH], x, y, z, w);
    (*sums)[3] = add_four((*sums)[3], row_tile[row + 48u * PITCH], x, y, z, w);
}

fn add_four(
    sum: vec4<f32>,
    by: vec4<f32>,
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
) -> vec4<f32> {
    return fma(vec4(by.w), w, fma(vec4(by.z), z, fma(vec4(by.y), y, fma(vec4(by.x), x, sum))));
}

// Writes the tile of scores: lane (x, y) has quad x of the rows y + 16 i.
fn keep_scores(scores: array<vec4<f32>, 4>, local: vec3<u32>) {
    let at = local.y * PITCH + local.x;
    row_tile[at] = scores[0];
    row_tile[at + 16u * PITCH] = scores[1];
    row_tile[at + 32u * PITCH] = scores[2];
    row_tile[at + 48u * PITCH] = scores[3];
}
