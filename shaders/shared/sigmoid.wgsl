// 1 / (1 + exp(-x)) without overflow: the exponent is never positive.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}
