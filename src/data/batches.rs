//! Which windows each iteration reads: a pure function of the seed and the iteration, so that a
//! run can be resumed anywhere.

use super::dataset::{Dataset, Places};
use crate::config::Sampling;
use crate::random::{Philox, Stream};

/// The order of a run's windows.
#[derive(Clone, Copy, Debug)]
pub struct BatchOrder {
    sampling: Sampling,
    seed: u64,
    batch_size: usize,
    places: Places,
}

impl BatchOrder {
    /// The order over `dataset`.
    pub fn new(dataset: &Dataset, sampling: Sampling, seed: u64, batch_size: usize) -> Self {
        Self {
            sampling,
            seed,
            batch_size,
            places: dataset.places(),
        }
    }

    /// The order of windows drawn at random over so many `tokens`, more than one window has.
    pub fn random(tokens: usize, context_length: usize, seed: u64, batch_size: usize) -> Self {
        Self {
            sampling: Sampling::Random,
            seed,
            batch_size,
            places: Places {
                windows: (tokens - 1) / context_length,
                stride: context_length,
                random: tokens - context_length,
            },
        }
    }

    /// First tokens of the windows of `iteration`, one for each row; of rows of examples, their numbers.
    ///
    /// Of a token file:
    ///
    /// `random`: uniform over `[0, tokens - context_length - 1]`. `sequential`: row `r` of
    /// iteration `i` is window `(i * batch_size + r) mod W` of the `W = (tokens - 1) /
    /// context_length` windows at multiples of the context length. `shuffle`: the same windows,
    /// each once an epoch, in a new order every epoch.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "all below the number of tokens, a usize"
    )]
    pub fn starts(&self, iteration: u64) -> Vec<usize> {
        let Places {
            windows,
            stride,
            random,
        } = self.places;
        let windows = windows as u64;
        let first = iteration * self.batch_size as u64;
        let start = |n: u64| match self.sampling {
            Sampling::Random => {
                Philox::new(self.seed, Stream::Batches).below(n, random as u64) as usize
            }
            Sampling::Sequential => (n % windows) as usize * stride,
            Sampling::Shuffle => {
                let random = Philox::new(self.seed, Stream::Shuffle);
                random.shuffled(n % windows, windows, n / windows) as usize * stride
            }
        };
        (first..first + self.batch_size as u64).map(start).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn order(sampling: Sampling) -> BatchOrder {
        BatchOrder {
            sampling,
            seed: 5,
            batch_size: 3,
            places: Places {
                windows: 7,
                stride: 10,
                random: 65,
            },
        }
    }

    #[test]
    fn sequential_windows_wrap_around() {
        let order = order(Sampling::Sequential);
        assert_eq!(order.starts(0), [0, 10, 20]);
        assert_eq!(order.starts(2), [60, 0, 10]);
    }

    #[test]
    fn shuffle_reads_each_window_once_an_epoch_in_a_new_order() {
        let order = order(Sampling::Shuffle);
        let all: Vec<usize> = (0..14).flat_map(|i| order.starts(i)).collect();
        let windows: BTreeSet<usize> = (0..7).map(|w| w * 10).collect();
        for epoch in all.chunks_exact(7) {
            assert_eq!(epoch.iter().copied().collect::<BTreeSet<_>>(), windows);
        }
        assert_ne!(all[..7], all[7..14]);
    }

    #[test]
    fn random_starts_reach_both_ends_and_no_further() {
        let order = order(Sampling::Random);
        let starts: BTreeSet<usize> = (0..2000).flat_map(|i| order.starts(i)).collect();
        assert_eq!((starts.first(), starts.last()), (Some(&0), Some(&64)));
    }
}
