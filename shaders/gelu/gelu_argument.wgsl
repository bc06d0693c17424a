// z(x) = 2 * sqrt(2 / pi) * (x + 0.044715 * x^3), of which GELU takes the sigmoid, and its derivative.
const GELU_FACTOR: f32 = 1.5957691216057308;
const GELU_CUBIC: f32 = 0.044715;

// From 16 on the sigmoid is one and below -16 zero, however far x is: its cube would overflow.
fn near_zero(x: vec4<f32>) -> vec4<f32> {
    return clamp(x, vec4(-16.0), vec4(16.0));
}

fn gelu_argument(x: vec4<f32>) -> vec4<f32> {
    return GELU_FACTOR * x * (1.0 + GELU_CUBIC * x * x);
}

fn gelu_argument_slope(x: vec4<f32>) -> vec4<f32> {
    return GELU_FACTOR * (1.0 + 3.0 * GELU_CUBIC * x * x);
}
