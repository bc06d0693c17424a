// Gradient of causal attention for keys and values: a workgroup takes 64 keys of a head and goes
// through the queries that see them, 32 at a time, of all heads that share the keys, with
// probabilities recomputed from the log-sum-exp: d_value = p . d_output,
// d_score = p * (d_output . value - delta), d_key = scale * d_score . query.
// Joined with attention_d_output_quad.wgsl, attention_end_query.wgsl, attention_head_quad.wgsl.
// Joined with attention_quads.wgsl, attention_tiles.wgsl.
// Joined with attention_turned_back.wgsl, operand_words.wgsl or operand_halves.wgsl.
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
@group(0) @binding(1) var<storage, read> qkv: array<Quad>;       // [batch * time, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> d_output: array<Quad>;  // [batch * time, num_heads * head_dim]
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;     // [batch, num_heads, time]
@group(0) @binding(4) var<storage, read> delta: array<f32>;           // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;    // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<Pair>;     // lies as qkv does
@group(0) @binding(7) var<storage, read> document_end: array<u32>;      // [batch * time], read if DOCUMENTS

override HEAD_DIM: u32 = 64u;
// Heads over 64 take two launches, one a gradient, since sums for both do not fit the registers.
override WRITES_KEY: bool = true;
override WRITES_VALUE: bool = true;

struct Block {
    head: u32,
    query0: u32,  // position of the block's first query
    quads: u32,   // of queries
}

// Turns scores of row y + 16 i, a key, for this lane's four queries, into probabilities, and
// d_output . value into d_scores.
fn differentiate(
    scores: ptr<function, array<vec4<f32>, 4>>,
    d_scores: ptr<function, array<vec4<f32>, 4>>,
    place: Place,
    block: Block,
) {
    let queries = vec4(block.query0 + place.local.x * 4u) + vec4(0u, 1u, 2u, 3u);
    let at = vec4((place.sequence * params.num_heads + block.head) * params.time)
        + min(queries, vec4(params.time - 1u));
    let row_log_sum_exp = vec4(log_sum_exp[at.x], log_sum_exp[at.y], log_sum_exp[at.z], log_sum_exp[at.w]);
    let row_delta = vec4(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
    for (var i = 0u; i < 4u; i++) {
        let position = place.row0 + i * 16u + place.local.y;
        let end_query = end_query_of(place.sequence, position);
        let is_seen = (queries >= vec4(position)) & (queries < vec4(end_query));
        let p = exp((*scores)[i] * params.scale - row_log_sum_exp);
        (*scores)[i] = select(vec4(0.0), p, is_seen);
        (*d_scores)[i] = (*scores)[i] * ((*d_scores)[i] - row_delta) * params.scale;
    }
}

fn add_d_output_chunk(sums: ptr<function, array<vec4<f32>, 4>>, place: Place, block: Block, chunk: u32) {
    // Every lane is done with the columns' chunk before.
    workgroupBarrier();
    stage_d_output(place, block.head, block.query0, chunk);
    // The chunk is whole, and so is the tile of probabilities.
    workgroupBarrier();
    add_weighted(sums, place.local, block.quads);
}

fn add_query_chunk(sums: ptr<function, array<vec4<f32>, 4>>, place: Place, block: Block, chunk: u32) {
    // Every lane is done with the columns' chunk before.
    workgroupBarrier();
    stage_query(place, block.head, block.query0, chunk);
    // The chunk is whole, and so is the tile of d_scores.
    workgroupBarrier();
    add_weighted(sums, place.local, block.quads);
}

@compute @workgroup_size(LANES_X, LANES_Y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The first keys are seen by the most queries, so the longest rows come first.
    let row0 = group.x * TILE_ROWS;
    let place = Place(local, lane, group.z, 0u, group.y, row0);
    var key_sums0: array<vec4<f32>, 4>;
    var key_sums1: array<vec4<f32>, 4>;
    var key_sums2: array<vec4<f32>, 4>;
    var key_sums3: array<vec4<f32>, 4>;
    var value_sums0: array<vec4<f32>, 4>;
    var value_sums1: array<vec4<f32>, 4>;
    var value_sums2: array<vec4<f32>, 4>;
    var value_sums3: array<vec4<f32>, 4>;
    let heads_per_group = params.num_heads / params.num_kv_heads;
    let end_query = end_query_of(group.z, row0 + TILE_ROWS - 1u);
    for (var h = 0u; h < heads_per_group; h++) {
        // Blocks above the diagonal are left out, and those behind the last key's document.
        for (var query0 = row0; query0 < end_query; query0 += TILE_COLS) {
            let quads = (min(TILE_COLS, end_query - query0) + 3u) / 4u;
            let block = Block(group.y * heads_per_group + h, query0, quads);
            // Zeros by name: without them Tint keeps the values of the turn before.
            var scores = array<vec4<f32>, 4>();
            var d_scores = array<vec4<f32>, 4>();
            for (var chunk = 0u; chunk < CHUNKS; chunk++) {
                // Every lane is done with what the tiles held before.
                workgroupBarrier();
                stage_key(place, chunk);
                stage_query(place, block.head, query0, chunk);
                // The chunks are whole.
                workgroupBarrier();
                add_dots(&scores, local, min(CHUNK, QUADS - chunk * CHUNK));
            }
            if (WRITES_KEY) {
                for (var chunk = 0u; chunk < CHUNKS; chunk++) {
                    // Every lane is done with what the tiles held before.
                    workgroupBarrier();
                    stage_value(place, chunk);
                    stage_d_output(place, block.head, query0, chunk);
                    // The chunks are whole.
                    workgroupBarrier();
                    add_dots(&d_scores, local, min(CHUNK, QUADS - chunk * CHUNK));
                }
            }
            differentiate(&scores, &d_scores, place, block);
            if (WRITES_VALUE) {
                // Every lane is done with the rows' chunk.
                workgroupBarrier();
                keep_scores(scores, local);
                add_d_output_chunk(&value_sums0, place, block, 0u);
                if (CHUNKS > 1u) { add_d_output_chunk(&value_sums1, place, block, 1u); }
                if (CHUNKS > 2u) { add_d_output_chunk(&value_sums2, place, block, 2u); }
                if (CHUNKS > 3u) { add_d_output_chunk(&value_sums3, place, block, 3u); }
            }
            if (WRITES_KEY) {
                // Every lane is done with what the rows' tile held.
                workgroupBarrier();
                keep_scores(d_scores, local);
                add_query_chunk(&key_sums0, place, block, 0u);
                if (CHUNKS > 1u) { add_query_chunk(&key_sums1, place, block, 1u); }
                if (CHUNKS > 2u) { add_query_chunk(&key_sums2, place, block, 2u); }
                if (CHUNKS > 3u) { add_query_chunk(&key_sums3, place, block, 3u); }
            }
        }
    }
    store_chunk(key_sums0, value_sums0, place, 0u);
    if (CHUNKS > 1u) { store_chunk(key_sums1, value_sums1, place, 1u); }
    if (CHUNKS > 2u) { store_chunk(key_sums2, value_sums2, place, 2u); }
    if (CHUNKS > 3u) { store_chunk(key_sums3, value_sums3, place, 3u); }
}

// Chunks of tiles whose rows are keys and whose columns are queries, of the head in hand.
fn stage_key(place: Place, chunk: u32) {
    for (var turn = 0u; turn < 4u; turn++) {
        let position = place.row0 + turn * 16u + place.lane / CHUNK;
        let quad = key_quad(place.sequence, position, place.kv_head, chunk * CHUNK + place.lane % CHUNK);
        row_tile[row_slot(place.lane, turn)] = quad;
    }
}

fn stage_value(place: Place, chunk: u32) {
    for (var turn = 0u; turn < 4u; turn++) {
        let position = place.row0 + turn * 16u + place.lane / CHUNK;
        let quad = value_quad(place.sequence, position, place.kv_head, chunk * CHUNK + place.lane % CHUNK);
        row_tile[row_slot(place.lane, turn)] = quad;
    }
}

fn stage_query(place: Place, head: u32, col0: u32, chunk: u32) {
    for (var turn = 0u; turn < 2u; turn++) {
        let position = col0 + turn * 16u + place.lane / CHUNK;
        let quad = query_quad(place.sequence, position, head, chunk * CHUNK + place.lane % CHUNK);
        col_tile[col_slot(place.lane, turn)] = quad;
    }
}

fn stage_d_output(place: Place, head: u32, col0: u32, chunk: u32) {
    for (var turn = 0u; turn < 2u; turn++) {
        let position = col0 + turn * 16u + place.lane / CHUNK;
        let quad = d_output_quad(place.sequence, position, head, chunk * CHUNK + place.lane % CHUNK);
        col_tile[col_slot(place.lane, turn)] = quad;
    }
}

// Writes quad x of a chunk of both gradients, for the keys y + 16 i.
fn store_chunk(keys: array<vec4<f32>, 4>, values: array<vec4<f32>, 4>, place: Place, chunk: u32) {
    let element = (chunk * CHUNK + place.local.x) * 4u;
    var key_sums = keys;
    var value_sums = values;
    for (var i = 0u; i < 4u; i++) {
        let position = place.row0 + i * 16u + place.local.y;
        if (position < params.time && element < HEAD_DIM) {
            let row = place.sequence * params.time + position;
            let first = row * params.row_stride + place.kv_head * HEAD_DIM + element;
            if (WRITES_KEY) {
                let quad = turned_back(key_sums[i], position * HEAD_DIM + element, element + 4u <= HEAD_DIM);
                store_quad_of_head(first + params.key_first, element, quad);
            }
            if (WRITES_VALUE) {
                store_quad_of_head(first + params.value_first, element, value_sums[i]);
            }
        }
    }
}

// The four elements of a head from `element` on, or the two that it has.
fn store_quad_of_head(first: u32, element: u32, quad: vec4<f32>) {
    d_qkv[first / 2u] = pair_of(quad.xy);
    if (element + 2u < HEAD_DIM) {
        d_qkv[first / 2u + 1u] = pair_of(quad.zw);
    }
}
