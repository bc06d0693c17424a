// How operands and results lie in memory: as words.
alias Quad = vec4<f32>;
alias Pair = vec2<f32>;

fn widened(quad: Quad) -> vec4<f32> {
    return quad;
}

fn values_of(pair: Pair) -> vec2<f32> {
    return pair;
}

fn pair_of(values: vec2<f32>) -> Pair {
    return values;
}

fn quad_of(values: vec4<f32>) -> Quad {
    return values;
}
