// Pairs one by one, for heads of any even width.
alias Pairs = vec2<f32>;
alias Angles = f32;
const PAIRS: u32 = 1u;

fn turn(pair: Pairs, c: Angles, s: Angles) -> Pairs {
    return fma(pair, vec2(c), vec2(-pair.y, pair.x) * s);
}
