// The neighbouring ids [x, y) of a row that one lane owns.
fn own_ids(lane: u32, vocab_size: u32) -> vec2<u32> {
    let share = (vocab_size + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let first = min(lane * share, vocab_size);
    return vec2(first, min(first + share, vocab_size));
}
