// Four signed bytes times the scale of their block, one of the two halves in `scales`: exact as f32.
fn scaled_quants(quants: u32, scales: u32, block: u32) -> vec4<f32> {
    let bytes = bitcast<vec4<i32>>(vec4(quants) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u);
    let half = (scales >> (16u * (block % 2u))) & 0xffffu;
    // `unpack2x16float` may take small halves for zero, of which blocks of small values have one. No scale is
    // negative or an infinity.
    let small = f32(half) * 5.9604644775390625e-8;
    let scale = select(bitcast<f32>((half << 13u) + 0x38000000u), small, half < 0x400u);
    return vec4<f32>(bytes) * scale;
}
