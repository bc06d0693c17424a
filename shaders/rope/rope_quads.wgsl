// Two pairs at a time, for heads of whole quads.
alias Pairs = vec4<f32>;
const PAIRS: u32 = 2u;

fn turn(pairs: Pairs, angles: Pairs, direction: f32) -> Pairs {
    let swapped = vec4(-pairs.y, pairs.x, -pairs.w, pairs.z) * direction;
    return fma(pairs, angles.xxzz, swapped * angles.yyww);
}
