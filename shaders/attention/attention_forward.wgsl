// Causal attention with an online softmax (Dao et al. 2022): a workgroup takes 64 queries of a head
// and goes through the keys that they see, 32 at a time. The log-sum-exp of each row is kept for
// the backward pass.
// Joined with attention_first_key.wgsl, attention_head_quad.wgsl, attention_query_rows.wgsl, attention_tiles.wgsl.
// Joined with most_negative.wgsl, operand_words.wgsl or operand_halves.wgsl.
struct Params {
    time: u32,
    num_heads: u32,
    num_kv_heads: u32,
    scale: f32,
    row_stride: u32,   // elements from one row of queries, keys and values, and of their gradients, to the next
    key_first: u32,    // where keys begin in such a row, behind the queries
    value_first: u32,  // and where values do
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Quad>;          // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read_write> output: array<Pair>;       // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read_write> log_sum_exp: array<f32>;  // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> document_first: array<u32>;       // [batch * time], read if DOCUMENTS

override HEAD_DIM: u32 = 64u;

// What the output of each row is multiplied with before a block of keys is added, or in the end.
var<workgroup> row_factor: array<f32, 64>;

// Which columns of a quad are seen.
fn is_between(quad: u32, hidden: u32, visible: u32) -> vec4<bool> {
    let cols = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
    return (cols < vec4(visible)) & (cols >= vec4(hidden));
}

// Turns a row of scores, of which those before `visible` but for the first `hidden` count, into probabilities times
// exp(largest); gives the new (largest, sum).
fn soften_row(row: u32, hidden: u32, visible: u32, quads: u32, before: vec2<f32>) -> vec2<f32> {
    var largest = before.x;
    for (var q = 0u; q < quads; q++) {
        let scores = row_tile[row * PITCH + q];
        let is_seen = is_between(q, hidden, visible);
        let seen = select(vec4(MOST_NEGATIVE), scores, is_seen);
        largest = max(largest, max(max(seen.x, seen.y), max(seen.z, seen.w)));
    }
    let factor = exp(before.x - largest);
    var sum = before.y * factor;
    for (var q = 0u; q < quads; q++) {
        let scores = row_tile[row * PITCH + q];
        let is_seen = is_between(q, hidden, visible);
        let p = select(vec4(0.0), exp(scores - largest), is_seen);
        sum += p.x + p.y + p.z + p.w;
        row_tile[row * PITCH + q] = p;
    }
    row_factor[row] = factor;
    return vec2(largest, sum);
}

fn grow(sums: ptr<function, array<vec4<f32>, 4>>, place: Place) {
    (*sums)[0] *= row_factor[place.local.y];
    (*sums)[1] *= row_factor[place.local.y + 16u];
    (*sums)[2] *= row_factor[place.local.y + 32u];
    (*sums)[3] *= row_factor[place.local.y + 48u];
}

fn attend_chunk(sums: ptr<function, array<vec4<f32>, 4>>, place: Place, key0: u32, quads: u32, chunk: u32) {
    if (chunk > 0u) {
        // Every lane is done with the chunk before; the first came with the scores.
        workgroupBarrier();
        stage_value(place, key0, chunk);
        // The chunk is whole.
        workgroupBarrier();
    }
    grow(sums, place);
    add_weighted(sums, place.local, quads);
}

fn store_chunk(sums: ptr<function, array<vec4<f32>, 4>>, place: Place, chunk: u32) {
    grow(sums, place);
    let element = (chunk * CHUNK + place.local.x) * 4u;
    for (var i = 0u; i < 4u; i++) {
        let position = place.row0 + i * 16u + place.local.y;
        if (position < params.time && element < HEAD_DIM) {
            let row = place.sequence * params.time + position;
            let at = ((row * params.num_heads + place.head) * HEAD_DIM + element) / 2u;
            output[at] = pair_of((*sums)[i].xy);
            if (element + 2u < HEAD_DIM) {
                output[at + 1u] = pair_of((*sums)[i].zw);
            }
        }
    }
}

@compute @workgroup_size(LANES_X, LANES_Y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The longest rows first, so that short ones fill the gaps at the end.
    let row0 = ((params.time - 1u) / TILE_ROWS - group.x) * TILE_ROWS;
    let kv_head = group.y / (params.num_heads / params.num_kv_heads);
    let place = Place(local, lane, group.z, group.y, kv_head, row0);
    var sums0: array<vec4<f32>, 4>;
    var sums1: array<vec4<f32>, 4>;
    var sums2: array<vec4<f32>, 4>;
    var sums3: array<vec4<f32>, 4>;
    // (largest, sum) of this lane's row, if it has one.
    var row = vec2(MOST_NEGATIVE, 0.0);
    let position = row0 + lane;
    let first_key = first_key_of(group.z, position);
    // Blocks above the diagonal are left out, and those before the first row's document.
    let end_key = min(row0 + TILE_ROWS, params.time);
    let first_block = first_key_of(group.z, row0) / TILE_COLS * TILE_COLS;
    for (var key0 = first_block; key0 < end_key; key0 += TILE_COLS) {
        let quads = (min(TILE_COLS, end_key - key0) + 7u) / 8u * 2u;
        // Zeros by name: without them Tint keeps the values of the turn before.
        var scores = array<vec4<f32>, 4>();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            // Every lane is done with what the tiles held before.
            workgroupBarrier();
            stage_query(place, chunk);
            stage_key(place, key0, chunk);
            // The chunks are whole.
            workgroupBarrier();
            add_dots(&scores, local, min(CHUNK, QUADS - chunk * CHUNK));
        }
        // Every lane is done with queries and keys.
        workgroupBarrier();
        keep_scores(scores, local);
        stage_value(place, key0, 0u);
        // The scores are whole.
        workgroupBarrier();
        if (lane < TILE_ROWS) {
            let hidden = max(first_key, key0) - key0;
            row = soften_row(lane, hidden, max(position + 1u, key0) - key0, quads, row);
        }
        // The probabilities, their factors and the values are whole.
        workgroupBarrier();
        attend_chunk(&sums0, place, key0, quads, 0u);
        if (CHUNKS > 1u) { attend_chunk(&sums1, place, key0, quads, 1u); }
        if (CHUNKS > 2u) { attend_chunk(&sums2, place, key0, quads, 2u); }
        if (CHUNKS > 3u) { attend_chunk(&sums3, place, key0, quads, 3u); }
    }
    // Every lane has read the last factors.
    workgroupBarrier();
    if (lane < TILE_ROWS) {
        row_factor[lane] = 1.0 / row.y;
        if (position < params.time) {
            let statistics = (group.z * params.num_heads + group.y) * params.time + position;
            log_sum_exp[statistics] = row.x + log(row.y);
        }
    }
    // The last factors are whole.
    workgroupBarrier();
    store_chunk(&sums0, place, 0u);
    if (CHUNKS > 1u) { store_chunk(&sums1, place, 1u); }
    if (CHUNKS > 2u) { store_chunk(&sums2, place, 2u); }
    if (CHUNKS > 3u) { store_chunk(&sums3, place, 3u); }
}
