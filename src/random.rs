//! Random numbers without state: Philox4x32-10, and the draws built on it.
//!
//! Every number is a pure function of (seed, stream, counter), so any draw can be repeated, skipped
//! or made in another order, on the host and in a shader alike.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const PHILOX_ROUNDS: usize = 10;
const FEISTEL_ROUNDS: u32 = 8;

/// One Philox4x32 block with ten rounds: four random words for a 128-bit counter and a 64-bit key.
///
/// Word order is that of Random123 (`ctr.v[0]` first). Source: Salmon et al. 2011, "Parallel random
/// numbers: as easy as 1, 2, 3", section 3.3.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    let [mut key0, mut key1] = key;
    for _ in 0..PHILOX_ROUNDS {
        let [low0, high0] = words(u64::from(x0) * u64::from(MULTIPLIERS[0]));
        let [low1, high1] = words(u64::from(x2) * u64::from(MULTIPLIERS[1]));
        [x0, x1, x2, x3] = [high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0];
        key0 = key0.wrapping_add(WEYL[0]);
        key1 = key1.wrapping_add(WEYL[1]);
    }
    [x0, x1, x2, x3]
}

/// What a random number is for. Streams with one seed are independent of each other.
///
/// The numbers are part of every run's meaning and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial weights.
    Init = 0,
    /// Where the windows of a batch start.
    Batches = 1,
    /// The order of windows in an epoch.
    Shuffle = 2,
    /// Sampling from a model's output.
    Sample = 3,
    /// The built-in corpus.
    Corpus = 4,
    /// Which documents are for validation.
    Split = 5,
}

/// The random numbers of one seed and stream.
///
/// A block's counter words are `[counter low, counter high, stream, sub-counter]` and its key words
/// `[seed low, seed high]`. 64-bit words are `block[0] | block[1] << 32`, then `block[2] | block[3] << 32`.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
}

impl Philox {
    /// The numbers of `stream` under `seed`.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self {
            key: words(seed),
            stream: stream as u32,
        }
    }

    /// Four random words for `counter`: the block of sub-counter 0.
    pub fn block(&self, counter: u64) -> [u32; 4] {
        self.sub_block(counter, 0)
    }

    /// Four random words for the `sub`-th draw under one counter.
    pub fn sub_block(&self, counter: u64, sub: u32) -> [u32; 4] {
        let [low, high] = words(counter);
        philox4x32([low, high, self.stream, sub], self.key)
    }

    /// A uniform number in [0, 1) with 53 random bits, from the first 64-bit word.
    pub fn uniform(&self, counter: u64) -> f64 {
        unit(double_words(self.block(counter))[0])
    }

    /// A uniform integer in [0, n).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&self, counter: u64, n: u64) -> u64 {
        self.sub_below(counter, 0, n)
    }

    /// A uniform integer in [0, n) from the `sub`-th draw under one counter.
    ///
    /// It is the high half of `first 64-bit word * n`; no value's probability is off by more than 2^-64.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn sub_below(&self, counter: u64, sub: u32, n: u64) -> u64 {
        assert!(n > 0, "no integer is below 0");
        let word = double_words(self.sub_block(counter, sub))[0];
        ((u128::from(word) * u128::from(n)) >> 64) as u64
    }

    /// A standard normal number (Box-Muller, the cosine branch).
    pub fn normal(&self, counter: u64) -> f64 {
        normal_of(self.block(counter))
    }

    /// A standard normal number given that it lies within `[-bound, bound]`.
    ///
    /// Sub-counters 0, 1, ... are tried in turn until one does.
    ///
    /// # Panics
    /// If `bound` is below 0.01 or not a number: rejection would take too long.
    pub fn truncated_normal(&self, counter: u64, bound: f64) -> f64 {
        assert!(bound >= 0.01, "the bound {bound} is too narrow to sample");
        (0..u32::MAX)
            .map(|sub| normal_of(self.sub_block(counter, sub)))
            .find(|value| value.abs() <= bound)
            .unwrap_or(0.0)
    }

    /// Where a pseudo-random permutation of `0..n`, one for each epoch, sends `index`.
    ///
    /// A Feistel network permutes the smallest even number of bits that holds `n`; results outside of
    /// `0..n` are sent through again until one is inside, which keeps the map one to one. The epoch's
    /// key is the first two words of `block(epoch)`; a round's words are `[right half, round, stream, 0]`.
    ///
    /// # Panics
    /// If `index` is not below `n`.
    pub fn shuffled(&self, index: u64, n: u64, epoch: u64) -> u64 {
        assert!(index < n, "index {index} is not below {n}");
        let half_bits = (u64::BITS - (n - 1).leading_zeros()).div_ceil(2).max(1);
        let [key0, key1, ..] = self.block(epoch);
        let mut value = index;
        loop {
            value = self.feistel(value, half_bits, [key0, key1]);
            if value < n {
                return value;
            }
        }
    }

    /// A permutation of the integers of `2 * half_bits` bits.
    fn feistel(&self, value: u64, half_bits: u32, key: [u32; 2]) -> u64 {
        let mask = (1 << half_bits) - 1;
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..FEISTEL_ROUNDS {
            let [right_word, _] = words(right);
            let mixed = philox4x32([right_word, round, self.stream, 0], key)[0];
            (left, right) = (right, left ^ (u64::from(mixed) & mask));
        }
        (left << half_bits) | right
    }
}

/// The low and the high 32 bits.
fn words(value: u64) -> [u32; 2] {
    [(value & 0xFFFF_FFFF) as u32, (value >> 32) as u32]
}

fn double_words(block: [u32; 4]) -> [u64; 2] {
    [
        u64::from(block[0]) | u64::from(block[1]) << 32,
        u64::from(block[2]) | u64::from(block[3]) << 32,
    ]
}

/// The upper 53 bits as a number in [0, 1).
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

fn normal_of(block: [u32; 4]) -> f64 {
    let [first, second] = double_words(block);
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit(first)).ln()).sqrt();
    radius * (TAU * unit(second)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, want) in cases {
            assert_eq!(philox4x32(counter, key), want, "counter {counter:08x?}");
        }
    }

    #[test]
    fn block_words_are_counter_stream_and_seed() {
        let philox = Philox::new(0x1122_3344_5566_7788, Stream::Sample);
        let want = philox4x32([0xccdd_eeff, 0x99aa_bb00, 3, 9], [0x5566_7788, 0x1122_3344]);
        assert_eq!(philox.sub_block(0x99aa_bb00_ccdd_eeff, 9), want);
    }

    #[test]
    fn below_is_in_range_and_even() {
        let philox = Philox::new(1, Stream::Batches);
        for n in [1, 2, 7, 10] {
            let draws: Vec<u64> = (0..20_000).map(|i| philox.below(i, n)).collect();
            assert!(draws.iter().all(|&value| value < n));
            let want = 20_000.0 / n as f64;
            // Six standard deviations of a binomial count.
            let slack = 6.0 * want.sqrt();
            for value in 0..n {
                let count = draws.iter().filter(|&&draw| draw == value).count();
                assert!((count as f64 - want).abs() <= slack, "{n}: {value} {count}");
            }
        }
        assert!(philox.below(0, u64::MAX) < u64::MAX);
    }

    #[test]
    fn normals_have_the_right_moments() {
        let philox = Philox::new(2, Stream::Init);
        let n = 200_000;
        // Var of a normal cut at 3: 1 - 2 * 3 * pdf(3) / (2 * cdf(3) - 1).
        let cut: (f64, f64) = (3.0, 0.973_337);
        for (bound, variance) in [(f64::INFINITY, 1.0), cut] {
            let values: Vec<f64> = (0..n).map(|i| philox.truncated_normal(i, bound)).collect();
            let mean = values.iter().sum::<f64>() / n as f64;
            let square = values.iter().map(|v| v * v).sum::<f64>() / n as f64;
            // Standard errors are 0.0022 and 0.0032.
            assert!(mean.abs() <= 0.012, "mean {mean}");
            assert!((square - variance).abs() <= 0.018, "variance {square}");
            assert!(values.iter().all(|v| v.abs() <= bound));
        }
        assert_eq!(philox.normal(5), philox.truncated_normal(5, f64::INFINITY));
    }

    #[test]
    fn shuffled_is_a_permutation_for_every_length() {
        let philox = Philox::new(3, Stream::Shuffle);
        for n in [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097] {
            for epoch in [0, 1, u64::MAX] {
                let mut seen: Vec<u64> = (0..n).map(|i| philox.shuffled(i, n, epoch)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..n), "n {n}, epoch {epoch}");
            }
        }
        assert!(philox.shuffled(u64::MAX - 1, u64::MAX, 0) < u64::MAX);
    }

    #[test]
    fn shuffled_differs_between_epochs_and_from_the_identity() {
        let philox = Philox::new(4, Stream::Shuffle);
        let fixed = |a: u64, b: u64| {
            let same = |&i: &u64| philox.shuffled(i, 1000, a) == philox.shuffled(i, 1000, b);
            (0..1000).filter(same).count()
        };
        let identity = (0..1000).filter(|&i| philox.shuffled(i, 1000, 0) == i);
        // A random permutation has one fixed point on average; ten are unlikely (1e-7).
        assert!(fixed(0, 1) < 10 && fixed(1, 2) < 10);
        assert!(identity.count() < 10);
    }
}
