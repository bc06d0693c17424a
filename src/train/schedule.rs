//! The learning rate as a function of the iteration.

use crate::config::{Schedule, TrainConfig};

/// Share of the cycle over which the `wsd` schedule decays (Hu et al. 2024 use a tenth to a fifth).
const WSD_DECAY_SHARE: f64 = 0.2;

/// Learning rate of `iteration`, counted from 0.
///
/// All schedules warm up linearly, `iteration / warmup_iters * learning_rate`. `cosine` then falls
/// by half a cosine to `min_learning_rate` at `cosine_cycle_iters` and stays there (Loshchilov and
/// Hutter 2017); `constant` stays at the peak; `wsd` stays at the peak and falls linearly over the
/// last fifth of the cycle.
pub fn learning_rate(config: &TrainConfig, iteration: u64) -> f64 {
    let (peak, least) = (config.learning_rate, config.min_learning_rate);
    let (warmup, cycle) = (config.warmup_iters, config.cosine_cycle_iters);
    if iteration < warmup {
        return iteration as f64 / warmup as f64 * peak;
    }
    match config.schedule {
        Schedule::Constant => peak,
        _ if iteration >= cycle => least,
        Schedule::Cosine => {
            let progress = (iteration - warmup) as f64 / (cycle - warmup) as f64;
            least + 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()) * (peak - least)
        }
        Schedule::Wsd => {
            let decay = (cycle as f64 * WSD_DECAY_SHARE).max(1.0);
            let left = (cycle - iteration) as f64 / decay;
            least + left.min(1.0) * (peak - least)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(schedule: Schedule) -> TrainConfig {
        let settings = Settings::default();
        TrainConfig {
            schedule,
            learning_rate: 1.0,
            min_learning_rate: 0.1,
            warmup_iters: 10,
            cosine_cycle_iters: 110,
            ..settings.train().unwrap()
        }
    }

    fn rates(schedule: Schedule, iterations: [u64; 6]) -> [f64; 6] {
        iterations.map(|i| learning_rate(&config(schedule), i))
    }

    fn assert_close(got: [f64; 6], want: [f64; 6]) {
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-12, "{got} is not {want}");
        }
    }

    #[test]
    fn schedules_pass_through_their_corners() {
        let at = [0, 5, 10, 60, 110, 500];
        assert_close(rates(Schedule::Cosine, at), [0.0, 0.5, 1.0, 0.55, 0.1, 0.1]);
        assert_close(
            rates(Schedule::Constant, at),
            [0.0, 0.5, 1.0, 1.0, 1.0, 1.0],
        );
        assert_close(
            rates(Schedule::Wsd, [0, 5, 88, 99, 110, 500]),
            [0.0, 0.5, 1.0, 0.55, 0.1, 0.1],
        );
    }
}
