// Keeps the keys and values of a sequence's first rows for the tokens that follow.
// Joined with attention_cache.wgsl, attention_head_quad.wgsl, flat_workgroup.wgsl.
// Joined with operand_words.wgsl or operand_halves.wgsl.
struct Params {
    rows: u32,         // at most capacity
    num_kv_heads: u32,
    capacity: u32,     // positions of a slot
    row_stride: u32,   // elements from one row of queries, keys and values to the next
    key_first: u32,    // where keys begin in such a row, behind the queries
    value_first: u32,  // and where values do
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Quad>;          // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read> places: array<u32>;        // [1, 2]: slot, and what is not read here
@group(0) @binding(3) var<storage, read_write> cache: array<Quad>;  // see attention_cache.wgsl

override HEAD_DIM: u32 = 64u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, count) * 64u + lane;
    let quad = index % QUADS;
    let row = index / QUADS % params.rows;
    let both = index / QUADS / params.rows;
    let kv_head = both / 2u;
    if (kv_head >= params.num_kv_heads) {
        return;
    }
    let which = both % 2u;
    let head_first = select(params.key_first, params.value_first, which == 1u) + kv_head * HEAD_DIM;
    let first = first_key(places[0], kv_head) + (which * params.capacity + row) * QUADS;
    cache[first + quad] = cached_quad(row, head_first, quad);
}
