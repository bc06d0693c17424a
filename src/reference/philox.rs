//! Philox4x32-10, a counter-based random number generator.
//!
//! Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011), section 3.3 and table 2.

/// Rounds of the generator.
const ROUNDS: u32 = 10;
/// Multipliers of the counter's even words.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What the key grows by between rounds: the golden ratio and sqrt(3) - 1, in 32 bits.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The four words that `counter` and `key` stand for.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut word0, mut word1, mut word2, mut word3] = counter;
    let [mut key0, mut key1] = key;
    for _ in 0..ROUNDS {
        let (high0, low0) = wide_product(MULTIPLIERS[0], word0);
        let (high1, low1) = wide_product(MULTIPLIERS[1], word2);
        word0 = high1 ^ word1 ^ key0;
        word1 = low1;
        word2 = high0 ^ word3 ^ key1;
        word3 = low0;
        key0 = key0.wrapping_add(WEYL[0]);
        key1 = key1.wrapping_add(WEYL[1]);
    }
    [word0, word1, word2, word3]
}

/// The high and the low word of a product.
fn wide_product(left: u32, right: u32) -> (u32, u32) {
    let product = u64::from(left) * u64::from(right);
    ((product >> 32) as u32, left.wrapping_mul(right))
}
