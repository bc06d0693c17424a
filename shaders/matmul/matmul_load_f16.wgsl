// Loads four neighbours of an operand of 2-byte floats, whose rows and quads are always aligned and may
// be read to the end of the gap behind a row.
// Joined with unpacked_halves.wgsl.
alias Word = u32;
alias Quad = vec2<u32>;

// Elements past `count` are zeros, which add nothing to a product.
fn load_a(at: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    return first_of(unpacked_halves(a_quads[at / 4u]), count);
}

fn load_b(at: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    return first_of(unpacked_halves(b_quads[at / 4u]), count);
}

fn first_of(quad: vec4<f32>, count: u32) -> vec4<f32> {
    return select(vec4(0.0), quad, vec4(0u, 1u, 2u, 3u) < vec4(count));
}
