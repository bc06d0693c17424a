//! Pre-tokens of up to 15 bytes as two words, which are compared and hashed in a few operations.

/// The bytes of a short pre-token, padded with zeros, and its length in the last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ShortKey([u64; 2]);

/// Which bits of two words hold the first bytes of a text, by their number.
const MASKS: [[u64; 2]; 16] = {
    let mut masks = [[0; 2]; 16];
    let mut len = 0;
    while len < 16 {
        masks[len] = match len {
            0..8 => [(1 << (8 * len)) - 1, 0],
            _ => [u64::MAX, (1 << (8 * (len - 8))) - 1],
        };
        len += 1;
    }
    masks
};

impl ShortKey {
    /// The key of the first `len` bytes of `text`, or `None` where they are more than 15.
    #[inline]
    pub(super) fn new(text: &[u8], len: usize) -> Option<Self> {
        let mask = MASKS.get(len)?;
        let (low, high) = match text.first_chunk::<16>() {
            Some(bytes) => {
                let word = u128::from_le_bytes(*bytes);
                #[allow(clippy::cast_possible_truncation, reason = "the low half is wanted")]
                (word as u64, (word >> 64) as u64)
            }
            None => padded(&text[..len]),
        };
        Some(Self([low & mask[0], high & mask[1] | (len as u64) << 56]))
    }

    /// The bytes of the key, the first [`ShortKey::len`] of which are the pre-token.
    pub(super) fn bytes(self) -> [u8; 16] {
        let [low, high] = self.0.map(u64::to_le_bytes);
        std::array::from_fn(|at| if at < 8 { low[at] } else { high[at - 8] })
    }

    /// Length of the pre-token.
    pub(super) fn len(self) -> usize {
        usize::from(self.0[1].to_le_bytes()[7])
    }

    /// A number whose every bit depends on every bit of the key: both halves of one product.
    #[inline]
    pub(super) fn mixed(self) -> u64 {
        // Odd numbers without a pattern: the first digits of pi, as in Blowfish's tables.
        let [low, high] = [
            self.0[0] ^ 0x243F_6A88_85A3_08D3,
            self.0[1] ^ 0x1319_8A2E_0370_7345,
        ];
        let product = u128::from(low) * u128::from(high);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "both halves are folded into one"
        )]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded
    }
}

/// The words of fewer than 16 bytes at the end of a text.
#[cold]
fn padded(text: &[u8]) -> (u64, u64) {
    let mut bytes = [0; 16];
    bytes[..text.len()].copy_from_slice(text);
    let half = |start| u64::from_le_bytes(std::array::from_fn(|at| bytes[start + at]));
    (half(0), half(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_the_bytes_and_differ_by_length() {
        let text: Vec<u8> = (1..=40).collect();
        for len in 0..MASKS.len() {
            let key = ShortKey::new(&text, len).unwrap();
            assert_eq!((&key.bytes()[..len], key.len()), (&text[..len], len));
            assert_eq!(ShortKey::new(&text[..len], len), Some(key), "at the end");
        }
        assert_eq!(ShortKey::new(&text, 16), None);
        let zeros = [0; 16];
        let keys: Vec<_> = (0..16).map(|len| ShortKey::new(&zeros, len)).collect();
        assert!((1..16).all(|len| keys[len] != keys[len - 1]));
    }
}
