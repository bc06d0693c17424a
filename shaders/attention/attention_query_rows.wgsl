// Chunks of tiles whose rows are queries and whose columns are keys.
// Joined with attention_quads.wgsl, attention_tiles.wgsl.
fn stage_query(place: Place, chunk: u32) {
    for (var turn = 0u; turn < 4u; turn++) {
        let position = place.row0 + turn * 16u + place.lane / CHUNK;
        let quad = query_quad(place.sequence, position, place.head, chunk * CHUNK + place.lane % CHUNK);
        row_tile[row_slot(place.lane, turn)] = quad * params.scale;
    }
}

fn stage_key(place: Place, col0: u32, chunk: u32) {
    for (var turn = 0u; turn < 2u; turn++) {
        let position = col0 + turn * 16u + place.lane / CHUNK;
        let quad = key_quad(place.sequence, position, place.kv_head, chunk * CHUNK + place.lane % CHUNK);
        col_tile[col_slot(place.lane, turn)] = quad;
    }
}

fn stage_value(place: Place, col0: u32, chunk: u32) {
    for (var turn = 0u; turn < 2u; turn++) {
        let position = col0 + turn * 16u + place.lane / CHUNK;
        let quad = value_quad(place.sequence, position, place.kv_head, chunk * CHUNK + place.lane % CHUNK);
        col_tile[col_slot(place.lane, turn)] = quad;
    }
}
