// How operands and results lie in memory: as 2-byte floats.
// Joined with half_bits.wgsl, unpacked_halves.wgsl.
alias Quad = vec2<u32>;
alias Pair = u32;

fn widened(quad: Quad) -> vec4<f32> {
    return unpacked_halves(quad);
}

fn values_of(pair: Pair) -> vec2<f32> {
    return unpacked_halves(vec2(pair, 0u)).xy;
}

fn pair_of(values: vec2<f32>) -> Pair {
    return packed_halves(vec4(values, 0.0, 0.0)).x;
}

fn quad_of(values: vec4<f32>) -> Quad {
    return packed_halves(values);
}
