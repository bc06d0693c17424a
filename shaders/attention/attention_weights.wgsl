// The weights that the queries of one head give to keys, for people to look at: a workgroup a query.
// Joined with attention_head_quad.wgsl, most_negative.wgsl, reduce_max.wgsl, reduce_sum.wgsl.
// Joined with operand_words.wgsl or operand_halves.wgsl.
struct Params {
    rows: u32,
    scale: f32,
    row_stride: u32,   // elements from one row of queries, keys and values to the next
    query_first: u32,  // where the head's queries begin in such a row
    key_first: u32,    // and where the keys that they meet do
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Quad>;           // [rows, queries, keys and values side by side]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;   // [rows, rows]

override HEAD_DIM: u32 = 64u;

const WORKGROUP_SIZE: u32 = 64u;

fn product(row: u32, key: u32) -> f32 {
    var dots = vec4(0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        var q = head_quad(row, params.query_first, quad);
        if (HEAD_DIM % 4u != 0u) {
            // Elements past the head's end belong to the next one.
            let places = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
            q = select(vec4(0.0), q, places < vec4(HEAD_DIM));
        }
        dots = fma(q, head_quad(key, params.key_first, quad), dots);
    }
    return (dots.x + dots.y) + (dots.z + dots.w);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let first = row * params.rows;
    var largest = MOST_NEGATIVE;
    for (var key = lane; key <= row; key += WORKGROUP_SIZE) {
        let score = product(row, key) * params.scale;
        output[first + key] = score;
        largest = max(largest, score);
    }
    largest = reduce_max(lane, largest);
    var sum = 0.0;
    for (var key = lane; key <= row; key += WORKGROUP_SIZE) {
        sum += exp(output[first + key] - largest);
    }
    sum = reduce_sum(lane, sum);
    for (var key = lane; key < params.rows; key += WORKGROUP_SIZE) {
        var weight = 0.0;
        if (key <= row) {
            weight = exp(output[first + key] - largest) / sum;
        }
        output[first + key] = weight;
    }
}
