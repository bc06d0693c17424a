// The output's gradient as rows, beside attention_query_rows.wgsl.
fn stage_d_output(place: Place, chunk: u32) {
    for (var turn = 0u; turn < 4u; turn++) {
        let position = place.row0 + turn * 16u + place.lane / CHUNK;
        let quad = d_output_quad(place.sequence, position, place.head, chunk * CHUNK + place.lane % CHUNK);
        row_tile[row_slot(place.lane, turn)] = quad;
    }
}
