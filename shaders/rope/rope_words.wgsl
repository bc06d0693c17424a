// Pairs one by one, for heads of any even width.
alias Pairs = vec2<f32>;
const PAIRS: u32 = 1u;

fn turn(pair: Pairs, angle: Pairs, direction: f32) -> Pairs {
    let swapped = vec2(-pair.y, pair.x) * direction;
    return fma(pair, angle.xx, swapped * angle.yy);
}
