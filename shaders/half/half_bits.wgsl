// Rounds to 2-byte floats, to nearest and ties to even, as `pack2x16float` does not on every adapter:
// AMD's and llvmpipe's round towards zero.
fn half_bits(values: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(values);
    let magnitude = bits & vec4(0x7fffffffu);
    let is_odd = (magnitude >> vec4(13u)) & vec4(1u);
    let normal = (magnitude - vec4(0x38000000u) + vec4(0xfffu) + is_odd) >> vec4(13u);
    // Below 2^-14 halves are multiples of 2^-24, and so are floats from 0.5 on.
    let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude) + 0.5) - vec4(0x3f000000u);
    let finite = select(normal, small, magnitude < vec4(0x38800000u));
    // From 65520 on the nearest is infinity; a NaN stays one.
    let beyond = select(vec4(0x7c00u), vec4(0x7e00u), magnitude > vec4(0x7f800000u));
    let rounded = select(finite, beyond, magnitude >= vec4(0x477ff000u));
    return rounded | ((bits >> vec4(16u)) & vec4(0x8000u));
}

fn packed_halves(values: vec4<f32>) -> vec2<u32> {
    let halves = half_bits(values);
    return halves.xz | (halves.yw << vec2(16u));
}
