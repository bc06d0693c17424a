// Gradient of causal attention for the queries: a workgroup takes 64 queries of a head and goes
// through the keys that they see, 32 at a time, with probabilities recomputed from the log-sum-exp:
// delta = d_output . output, d_score = p * (d_output . value - delta), d_query = scale * d_score . key
// (Dao et al. 2022). Keeps delta for the keys' and values' gradients.
// Joined with attention_d_output_quad.wgsl, attention_first_key.wgsl, attention_head_quad.wgsl.
// Joined with attention_query_rows.wgsl, attention_tiles.wgsl.
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
@group(0) @binding(3) var<storage, read> output: array<Pair>;    // [batch * time, num_heads * head_dim]
@group(0) @binding(4) var<storage, read> log_sum_exp: array<f32>;     // [batch, num_heads, time]
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;    // [time, head_dim]: cosine and sine of each pair
@group(0) @binding(6) var<storage, read_write> d_qkv: array<Pair>;     // lies as qkv does
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;     // [batch, num_heads, time]
@group(0) @binding(8) var<storage, read> document_first: array<u32>;    // [batch * time], read if DOCUMENTS

override HEAD_DIM: u32 = 64u;

var<workgroup> row_delta: array<f32, TILE_ROWS>;

fn delta_of(place: Place, position: u32) -> f32 {
    let row = place.sequence * params.time + min(position, params.time - 1u);
    let first = (row * params.num_heads + place.head) * HEAD_DIM;
    var sums = vec4(0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        let near = (first + quad * 4u) / 2u;
        // The last quad may be half a one, whose other half is zeros in the gradient.
        let far = select(near + 1u, near, quad * 4u + 4u > HEAD_DIM);
        let gradient = d_output_quad(place.sequence, position, place.head, quad);
        sums = fma(gradient, vec4(values_of(output[near]), values_of(output[far])), sums);
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// Row y + 16 i of d_scores, from scores and from d_output . value.
fn d_scores_of(scores: vec4<f32>, d_probabilities: vec4<f32>, place: Place, i: u32, key0: u32) -> vec4<f32> {
    let position = place.row0 + i * 16u + place.local.y;
    let statistics = (place.sequence * params.num_heads + place.head) * params.time + min(position, params.time - 1u);
    let p = exp(scores - log_sum_exp[statistics]);
    let d_scores = p * (d_probabilities - row_delta[i * 16u + place.local.y]) * params.scale;
    let keys = vec4(key0 + place.local.x * 4u) + vec4(0u, 1u, 2u, 3u);
    let first_key = first_key_of(place.sequence, position);
    return select(vec4(0.0), d_scores, (keys <= vec4(position)) & (keys >= vec4(first_key)));
}

fn add_chunk(sums: ptr<function, array<vec4<f32>, 4>>, place: Place, key0: u32, quads: u32, chunk: u32) {
    // Every lane is done with the columns' chunk before.
    workgroupBarrier();
    stage_key(place, key0, chunk);
    // The chunk is whole, and so is the tile of d_scores.
    workgroupBarrier();
    add_weighted(sums, place.local, quads);
}

fn store_chunk(sums: array<vec4<f32>, 4>, place: Place, chunk: u32) {
    let element = (chunk * CHUNK + place.local.x) * 4u;
    var values = sums;
    for (var i = 0u; i < 4u; i++) {
        let position = place.row0 + i * 16u + place.local.y;
        if (position < params.time && element < HEAD_DIM) {
            let row = place.sequence * params.time + position;
            let at = (row * params.row_stride + place.head * HEAD_DIM + element) / 2u;
            let quad = turned_back(values[i], position * HEAD_DIM + element, element + 4u <= HEAD_DIM);
            d_qkv[at] = pair_of(quad.xy);
            if (element + 2u < HEAD_DIM) {
                d_qkv[at + 1u] = pair_of(quad.zw);
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
    let position = row0 + lane;
    if (lane < TILE_ROWS) {
        let own_delta = delta_of(place, position);
        row_delta[lane] = own_delta;
        if (position < params.time) {
            delta[(group.z * params.num_heads + group.y) * params.time + position] = own_delta;
        }
    }
    // The deltas are whole.
    workgroupBarrier();
    // Blocks above the diagonal are left out, and those before the first row's document.
    let end_key = min(row0 + TILE_ROWS, params.time);
    let first_block = first_key_of(group.z, row0) / TILE_COLS * TILE_COLS;
    for (var key0 = first_block; key0 < end_key; key0 += TILE_COLS) {
        let quads = (min(TILE_COLS, end_key - key0) + 3u) / 4u;
        // Zeros by name: without them Tint keeps the values of the turn before.
        var scores = array<vec4<f32>, 4>();
        var d_probabilities = array<vec4<f32>, 4>();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            // Every lane is done with what the tiles held before.
            workgroupBarrier();
            stage_query(place, chunk);
            stage_key(place, key0, chunk);
            // The chunks are whole.
            workgroupBarrier();
            add_dots(&scores, local, min(CHUNK, QUADS - chunk * CHUNK));
        }
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            // Every lane is done with what the tiles held before.
            workgroupBarrier();
            stage_d_output(place, chunk);
            stage_value(place, key0, chunk);
            // The chunks are whole.
            workgroupBarrier();
            add_dots(&d_probabilities, local, min(CHUNK, QUADS - chunk * CHUNK));
        }
        for (var i = 0u; i < 4u; i++) {
            scores[i] = d_scores_of(scores[i], d_probabilities[i], place, i, key0);
        }
        // Every lane is done with the rows' chunk.
        workgroupBarrier();
        keep_scores(scores, local);
        add_chunk(&sums0, place, key0, quads, 0u);
        if (CHUNKS > 1u) { add_chunk(&sums1, place, key0, quads, 1u); }
        if (CHUNKS > 2u) { add_chunk(&sums2, place, key0, quads, 2u); }
        if (CHUNKS > 3u) { add_chunk(&sums3, place, key0, quads, 3u); }
    }
    store_chunk(sums0, place, 0u);
    if (CHUNKS > 1u) { store_chunk(sums1, place, 1u); }
    if (CHUNKS > 2u) { store_chunk(sums2, place, 2u); }
    if (CHUNKS > 3u) { store_chunk(sums3, place, 3u); }
}

// The output's gradient as rows, beside attention_query_rows.wgsl.
fn stage_d_output(place: Place, chunk: u32) {
    for (var turn = 0u; turn < 4u; turn++) {
        let position = place.row0 + turn * 16u + place.lane / CHUNK;
        let quad = d_output_quad(place.sequence, position, place.head, chunk * CHUNK + place.lane % CHUNK);
        row_tile[row_slot(place.lane, turn)] = quad;
    }
}
