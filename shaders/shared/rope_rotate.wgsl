// Rotates pair (2i, 2i + 1) of every head by the angle of its position, or by minus that angle.
fn rotate(index: u32, direction: f32) {
    let pairs_per_row = params.num_heads * params.head_dim / 2u;
    if (index >= params.rows * pairs_per_row) {
        return;
    }
    let row = index / pairs_per_row;
    let pair = index % pairs_per_row % (params.head_dim / 2u);
    let entry = row % params.time * (params.head_dim / 2u) + pair;
    let c = cosines[entry];
    let s = sines[entry] * direction;
    let even = values[2u * index];
    let odd = values[2u * index + 1u];
    values[2u * index] = even * c - odd * s;
    values[2u * index + 1u] = even * s + odd * c;
}
