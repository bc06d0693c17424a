// Four 2-byte floats, which are exact as f32.
fn unpacked_halves(halves: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(halves.x), unpack2x16float(halves.y));
}
