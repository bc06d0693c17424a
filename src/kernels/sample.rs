//! The sampler: temperature, top-k, softmax, top-p, and one draw a row.

use super::{binding, softmax};
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::random::Stream;
use crate::{params, shader};

params!(TopKParams {
    rows: u32,
    vocab_size: u32,
    top_k: u32,
    temperature: f32
});
params!(TopPParams {
    rows: u32,
    vocab_size: u32,
    top_p: f32
});
params!(DrawParams {
    rows: u32,
    vocab_size: u32,
    stream: u32
});
params!(GreedyParams {
    rows: u32,
    vocab_size: u32
});

/// What a row without a finite logit gives instead of a token.
pub const NO_TOKEN: u32 = u32::MAX;

/// Temperature and the k largest.
pub static TOP_K: Kernel = Kernel {
    name: "sample_top_k",
    variant: PORTABLE,
    source: shader!("sample/sample_top_k.wgsl"),
    bindings: &[binding("logits", Role::In), binding("scaled", Role::Out)],
    params: TopKParams::LAYOUT,
    requires: &[],
};

/// The nucleus.
pub static TOP_P: Kernel = Kernel {
    name: "sample_top_p",
    variant: PORTABLE,
    source: shader!("sample/sample_top_p.wgsl"),
    bindings: &[
        binding("probabilities", Role::In),
        binding("kept", Role::Out),
    ],
    params: TopPParams::LAYOUT,
    requires: &[],
};

/// One draw a row.
pub static DRAW: Kernel = Kernel {
    name: "sample_draw",
    variant: PORTABLE,
    source: shader!("sample/sample_draw.wgsl"),
    bindings: &[
        binding("masses", Role::In),
        binding("draw", Role::In),
        binding("tokens", Role::Out),
    ],
    params: DrawParams::LAYOUT,
    requires: &[],
};

/// The largest logit.
pub static GREEDY: Kernel = Kernel {
    name: "sample_greedy",
    variant: PORTABLE,
    source: shader!("sample/sample_greedy.wgsl"),
    bindings: &[binding("logits", Role::In), binding("tokens", Role::Out)],
    params: GreedyParams::LAYOUT,
    requires: &[],
};

/// How tokens are chosen from logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Keeps the k largest; `None` keeps all.
    pub top_k: Option<usize>,
    /// Keeps the smallest set of at least this mass; `None` keeps all.
    pub top_p: Option<f32>,
}

/// Words of the buffer that carries [`draw_words`].
pub const DRAW_WORDS: usize = 4;

/// Seed and counter of a draw, as the shader reads them.
pub fn draw_words(seed: u64, counter: u64) -> [u32; DRAW_WORDS] {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = seed.to_le_bytes();
    let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_le_bytes();
    [
        [s0, s1, s2, s3],
        [s4, s5, s6, s7],
        [c0, c1, c2, c3],
        [c4, c5, c6, c7],
    ]
    .map(u32::from_le_bytes)
}

/// Chooses a token for each row of `logits` `[rows, vocab]` and writes it to `tokens` `[rows]`;
/// `draw` holds [`draw_words`], row `r` uses its counter plus `r`.
pub fn sample(plan: &mut Plan, logits: Tensor, draw: Tensor, tokens: Tensor, sampling: &Sampling) {
    if sampling.temperature == 0.0 {
        greedy(plan, logits, tokens);
        return;
    }
    let scaled = top_k(
        plan,
        logits,
        sampling.top_k.unwrap_or(logits.cols),
        sampling.temperature,
    );
    let mut masses = softmax::forward(plan, scaled);
    if let Some(p) = sampling.top_p.filter(|&p| p < 1.0) {
        masses = top_p(plan, masses, p);
    }
    self::draw(plan, masses, draw, tokens);
}

/// Divides `logits` `[rows, vocab]` by the temperature and masks all but the `count` largest.
pub fn top_k(plan: &mut Plan, logits: Tensor, count: usize, temperature: f32) -> Tensor {
    let scaled = plan.scratch("scaled_logits", logits.rows, logits.cols);
    let params = TopKParams {
        rows: word(logits.rows),
        vocab_size: word(logits.cols),
        top_k: word(count.min(logits.cols)),
        temperature,
    };
    let dispatch = Dispatch::new(&TOP_K, params, [logits.into(), scaled.into()]);
    plan.push(dispatch.workgroups([word(logits.rows), 1, 1]));
    scaled
}

/// Zeroes what lies outside of the nucleus of mass `p` of `probabilities` `[rows, vocab]`.
pub fn top_p(plan: &mut Plan, probabilities: Tensor, p: f32) -> Tensor {
    let kept = plan.scratch("nucleus", probabilities.rows, probabilities.cols);
    let params = TopPParams {
        rows: word(kept.rows),
        vocab_size: word(kept.cols),
        top_p: p,
    };
    let dispatch = Dispatch::new(&TOP_P, params, [probabilities.into(), kept.into()]);
    plan.push(dispatch.workgroups([word(kept.rows), 1, 1]));
    kept
}

/// Draws a token of each row of `masses` `[rows, vocab]`.
pub fn draw(plan: &mut Plan, masses: Tensor, draw: Tensor, tokens: Tensor) {
    let params = DrawParams {
        rows: word(masses.rows),
        vocab_size: word(masses.cols),
        stream: Stream::Sample as u32,
    };
    let dispatch = Dispatch::new(&DRAW, params, [masses.into(), draw.into(), tokens.into()]);
    plan.push(dispatch.workgroups([word(masses.rows), 1, 1]));
}

/// Takes the largest logit of each row, the lowest id on a tie.
pub fn greedy(plan: &mut Plan, logits: Tensor, tokens: Tensor) {
    let params = GreedyParams {
        rows: word(logits.rows),
        vocab_size: word(logits.cols),
    };
    let dispatch = Dispatch::new(&GREEDY, params, [logits.into(), tokens.into()]);
    plan.push(dispatch.workgroups([word(logits.rows), 1, 1]));
}
