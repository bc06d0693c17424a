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
        let row = place.sequence * params.time + position;
        let first = (row * params.num_kv_heads + place.kv_head) * HEAD_DIM + element;
        for (var c = 0u; c < 4u; c++) {
            if (position < params.time && element + c < HEAD_DIM) {
                if (WRITES_KEY) {
                    d_key[first + c] = key_sums[i][c];
                }
                if (WRITES_VALUE) {
                    d_value[first + c] = value_sums[i][c];
                }
            }
        }
    }
}
