//! How a pass knows where in its sequence each row stands: by the angles that turn queries and keys, or by the
//! numbers of the vectors that are added to the embedding.

use crate::config::{ModelConfig, Positions, RopeScaling};
use crate::gpu::Tensor;
use crate::gpu::dispatch::word;
use crate::kernels::rope::{self, RopeTable};

/// What a pass reads of its rows' positions: those of one sequence from zero on, which all sequences of a
/// batch share, or one of each row.
#[derive(Clone, Copy, Debug)]
pub enum PositionTable {
    /// Angles, `[time, head_dim]`.
    Rope(RopeTable),
    /// Numbers of the vectors, `[time]`.
    Learned(Tensor),
}

impl PositionTable {
    /// The table in `words`, as [`position_words`] wrote them for `rows` positions of a model of `config`.
    pub fn of(config: &ModelConfig, words: Tensor, rows: usize) -> Self {
        let words = words.slice(0, rows * words_a_position(config));
        match config.architecture.positions {
            Positions::Rope => Self::Rope(RopeTable {
                angles: words.reshape(rows, config.head_dim()),
            }),
            Positions::Learned => Self::Learned(words),
        }
    }

    /// The angles, if there are any.
    pub fn rotation(self) -> Option<RopeTable> {
        match self {
            Self::Rope(table) => Some(table),
            Self::Learned(_) => None,
        }
    }
}

/// Words of a [`PositionTable`] for each position.
pub fn words_a_position(config: &ModelConfig) -> usize {
    match config.architecture.positions {
        Positions::Rope => config.head_dim(),
        Positions::Learned => 1,
    }
}

/// What a [`PositionTable`] holds of `positions`.
pub fn position_words(
    config: &ModelConfig,
    positions: impl IntoIterator<Item = usize>,
) -> Vec<u32> {
    let positions = positions.into_iter();
    match config.architecture.positions {
        Positions::Rope => {
            let frequencies = frequencies(config);
            let angles = positions.flat_map(|at| rope::angles_at(at, &frequencies));
            angles.map(f32::to_bits).collect()
        }
        Positions::Learned => positions.map(word).collect(),
    }
}

/// The angle from one position to the next of each pair, in radians, as the model scales them.
pub fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let mut frequencies = rope::frequencies(config.head_dim(), config.rope_theta);
    for frequency in &mut frequencies {
        *frequency /= divisor(config, *frequency);
    }
    frequencies
}

/// What the model's scaling divides the angle of each pair by.
pub fn divisors(config: &ModelConfig) -> Vec<f64> {
    let frequencies = rope::frequencies(config.head_dim(), config.rope_theta);
    let divisors = frequencies.iter().map(|own| divisor(config, *own));
    divisors.collect()
}

/// What the model's scaling divides an angle of `frequency` by. Llama 3's is that of its published reference:
/// an angle that turns fewer than `low` times in the original context is divided by the factor, one that turns
/// more than `high` times stays, and between them the share of the unscaled frequency rises linearly with the
/// number of turns.
fn divisor(config: &ModelConfig, frequency: f64) -> f64 {
    let a = &config.architecture;
    match a.rope_scaling {
        RopeScaling::None => 1.0,
        RopeScaling::Linear => a.rope_factor,
        RopeScaling::Llama3 => {
            let turns = a.rope_original_context as f64 * frequency / std::f64::consts::TAU;
            let (low, high) = (a.rope_low_freq_factor, a.rope_high_freq_factor);
            let unscaled = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            1.0 / (unscaled + (1.0 - unscaled) / a.rope_factor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::train::Model;

    #[test]
    fn llama3_scaling_leaves_fast_angles_and_divides_slow_ones() {
        let mut config = Model::Small.config();
        let plain = frequencies(&config);
        config.architecture.rope_scaling = RopeScaling::Llama3;
        config.architecture.rope_factor = 8.0;
        config.architecture.rope_original_context = 128;
        let scaled = frequencies(&config);
        let divisors: Vec<f64> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        assert_eq!(divisors[0], 1.0);
        assert_eq!(*divisors.last().unwrap(), 8.0);
        assert!(
            divisors.iter().any(|d| (1.1..7.9).contains(d)),
            "{divisors:?}"
        );
        assert!(divisors.is_sorted(), "{divisors:?}");
    }
}
