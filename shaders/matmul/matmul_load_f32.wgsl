// Loads four neighbours of an operand of words.
// Whether every row of a and b begins at a multiple of four words.
override ALIGNED: bool = true;

alias Word = f32;
alias Quad = vec4<f32>;

// Elements past `count` are zeros, which add nothing to a product.
fn load_a(at: u32, count: u32) -> vec4<f32> {
    if (count == 4u) {
        if (ALIGNED) {
            return a_quads[at / 4u];
        }
        return vec4(a[at], a[at + 1u], a[at + 2u], a[at + 3u]);
    }
    var quad = vec4(0.0);
    for (var i = 0u; i < count; i++) {
        quad[i] = a[at + i];
    }
    return quad;
}

fn load_b(at: u32, count: u32) -> vec4<f32> {
    if (count == 4u) {
        if (ALIGNED) {
            return b_quads[at / 4u];
        }
        return vec4(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
    }
    var quad = vec4(0.0);
    for (var i = 0u; i < count; i++) {
        quad[i] = b[at + i];
    }
    return quad;
}
