//! GGUF's blocks of quantised elements, bit by bit as ggml's reference functions make and read them
//! (`ggml-quants.c`: `quantize_row_*_ref`, `dequantize_row_*`).

use half::f16;

/// Elements of a block.
pub(crate) const LEN: usize = 32;
/// Elements of a super-block.
pub(super) const SUPER_LEN: usize = 256;

/// A scale and signed bytes.
pub(crate) const Q8_0_BYTES: usize = 2 + LEN;
/// A scale and nibbles.
pub(super) const Q4_0_BYTES: usize = 2 + LEN / 2;
/// A scale, a minimum and nibbles.
pub(super) const Q4_1_BYTES: usize = 4 + LEN / 2;
/// A scale, a minimum, those of eight blocks in 6 bits each, and nibbles.
pub(super) const Q4_K_BYTES: usize = 4 + SCALES_BYTES + SUPER_LEN / 2;
/// Lower nibbles, upper pairs of bits, scales of 16 elements each, and a scale.
pub(super) const Q6_K_BYTES: usize = SUPER_LEN / 2 + SUPER_LEN / 4 + SUPER_LEN / 16 + 2;

/// Eight scales and eight minima of 6 bits.
const SCALES_BYTES: usize = 12;

pub(super) fn widen_q8_0(bytes: &[u8; Q8_0_BYTES], values: &mut [f32; LEN]) {
    let scale = half_at(bytes, 0);
    for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
        *value = signed(*byte) * scale;
    }
}

pub(super) fn widen_q4_0(bytes: &[u8; Q4_0_BYTES], values: &mut [f32; LEN]) {
    let scale = half_at(bytes, 0);
    widen_nibbles(&bytes[2..], values, |nibble| (nibble - 8.0) * scale);
}

pub(super) fn widen_q4_1(bytes: &[u8; Q4_1_BYTES], values: &mut [f32; LEN]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    widen_nibbles(&bytes[4..], values, |nibble| nibble * scale + least);
}

/// Lower nibbles are the first half of `values`, upper ones the second.
fn widen_nibbles(bytes: &[u8], values: &mut [f32], value: impl Fn(f32) -> f32) {
    let (first, second) = values.split_at_mut(bytes.len());
    for ((first, second), byte) in first.iter_mut().zip(second).zip(bytes) {
        *first = value(f32::from(byte & 15));
        *second = value(f32::from(byte >> 4));
    }
}

pub(super) fn widen_q4_k(bytes: &[u8; Q4_K_BYTES], values: &mut [f32; SUPER_LEN]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    let (packed, nibbles) = bytes[4..].split_at(SCALES_BYTES);
    let runs = values.chunks_exact_mut(2 * LEN);
    for (pair, (values, nibbles)) in runs.zip(nibbles.chunks_exact(LEN)).enumerate() {
        let (first, second) = values.split_at_mut(LEN);
        for (block, values) in [(2 * pair, first), (2 * pair + 1, second)] {
            let (own_scale, own_least) = scale_and_minimum(packed, block);
            let (scale, least) = (scale * own_scale, least * own_least);
            for (value, byte) in values.iter_mut().zip(nibbles) {
                let nibble = byte >> (4 * (block % 2)) & 15;
                *value = scale * f32::from(nibble) - least;
            }
        }
    }
}

/// The 6-bit scale and minimum of one of a super-block's eight blocks. Those of the first four are the lower bits
/// of bytes 0 to 3 and 4 to 7. The others have their lower 4 bits in bytes 8 to 11, and the upper 2 above those of
/// the first four.
fn scale_and_minimum(packed: &[u8], block: usize) -> (f32, f32) {
    let (scale, least) = if block < 4 {
        (packed[block] & 63, packed[block + 4] & 63)
    } else {
        (
            packed[block + 4] & 15 | packed[block - 4] >> 6 << 4,
            packed[block + 4] >> 4 | packed[block] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

pub(super) fn widen_q6_k(bytes: &[u8; Q6_K_BYTES], values: &mut [f32; SUPER_LEN]) {
    let (lower, rest) = bytes.split_at(SUPER_LEN / 2);
    let (upper, rest) = rest.split_at(SUPER_LEN / 4);
    let (scales, _) = rest.split_at(SUPER_LEN / 16);
    let scale = half_at(bytes, Q6_K_BYTES - 2);
    for (at, value) in values.iter_mut().enumerate() {
        // Each half of a super-block: four runs of 32 elements that share bytes.
        let (half, run, column) = (at / 128, at % 128 / LEN, at % LEN);
        let nibble = lower[half * 64 + run % 2 * LEN + column] >> (4 * (run / 2)) & 15;
        let above = upper[half * LEN + column] >> (2 * run) & 3;
        let quant = f32::from(above << 4 | nibble) - 32.0;
        *value = scale * signed(scales[at / 16]) * quant;
    }
}

pub(crate) fn narrow_q8_0(values: &[f32; LEN], bytes: &mut [u8; Q8_0_BYTES]) {
    let largest = values.iter().fold(0.0_f32, |largest, value| {
        let size = value.abs();
        if largest > size { largest } else { size }
    });
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    set_half(bytes, scale);
    for (byte, value) in bytes[2..].iter_mut().zip(values) {
        // Halves away from zero, as C's roundf.
        [*byte] = whole((value * inverse).round()).to_le_bytes();
    }
}

pub(super) fn narrow_q4_0(values: &[f32; LEN], bytes: &mut [u8; Q4_0_BYTES]) {
    // The first of the largest size, with its sign, becomes the quant -8: one more than the other side has.
    let largest = values.iter().fold(0.0_f32, |largest, value| {
        if largest.abs() < value.abs() {
            *value
        } else {
            largest
        }
    });
    let scale = largest / -8.0;
    let inverse = inverse(scale);
    set_half(bytes, scale);
    let quant = |value: f32| whole(value * inverse + 8.5).clamp(0, 15).unsigned_abs();
    let (first, second) = values.split_at(LEN / 2);
    for ((byte, first), second) in bytes[2..].iter_mut().zip(first).zip(second) {
        *byte = quant(*first) | quant(*second) << 4;
    }
}

/// One over `scale`; of 0 it is 0, so that a block of zeros has no NaN.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Towards zero. What is not finite becomes 0, as C's cast has it on x86: elements so small that one over their
/// scale is infinite, whose scale is 0 as an f16.
#[allow(
    clippy::cast_possible_truncation,
    reason = "quants are from -127 to 127"
)]
fn whole(value: f32) -> i8 {
    if value.is_finite() { value as i8 } else { 0 }
}

fn signed(byte: u8) -> f32 {
    f32::from(i8::from_le_bytes([byte]))
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The first two bytes of a block.
fn set_half(bytes: &mut [u8], scale: f32) {
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
}
