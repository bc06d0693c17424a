// The newest position of each row, and its place in the cache. The kernel's own file declares `places` and
// `cache`.
// Joined with attention_cache.wgsl, attention_head_quad.wgsl.

// Of a row that stands for no sequence.
const NO_SLOT: u32 = 0xffffffffu;

// A slot's keys and values of one head.
struct Kept {
    keys: u32,    // where they begin
    values: u32,
    taken: u32,   // positions that there are, the newest included
}

// Adds a row's own key and value to the cache, in place of the oldest where all of the slot is taken. Other lanes
// see them behind a barrier.
fn keep_newest(row: u32, kv_head: u32, lane: u32, lanes: u32) -> Kept {
    let slot = places[row * 2u];
    let position = places[row * 2u + 1u];
    let keys = first_key(slot, kv_head);
    let values = keys + params.capacity * QUADS;
    let taken = select(min(position + 1u, params.capacity), 0u, slot == NO_SLOT);
    if (taken > 0u) {
        for (var quad = lane; quad < QUADS; quad += lanes) {
            let at = position % params.capacity * QUADS + quad;
            cache[keys + at] = cached_quad(row, params.key_first + kv_head * HEAD_DIM, quad);
            cache[values + at] = cached_quad(row, params.value_first + kv_head * HEAD_DIM, quad);
        }
    }
    return Kept(keys, values, taken);
}
