// Two pairs at a time, for heads of whole quads.
alias Pairs = vec4<f32>;
alias Angles = vec2<f32>;
const PAIRS: u32 = 2u;

fn turn(pairs: Pairs, c: Angles, s: Angles) -> Pairs {
    return fma(pairs, c.xxyy, vec4(-pairs.y, pairs.x, -pairs.w, pairs.z) * s.xxyy);
}
