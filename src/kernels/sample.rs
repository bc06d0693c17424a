//! The sampler: which tokens of each row of logits may be drawn, and one draw a row. Each row has settings
//! of its own, and a draw that does not depend on the rows beside it.

use super::binding;
use crate::gpu::dispatch::word;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::random::Stream;
use crate::{params, shader};

params!(FilterParams {
    rows: u32,
    vocab_size: u32,
    context_stride: u32
});
params!(DrawParams {
    rows: u32,
    vocab_size: u32,
    stream: u32
});

/// What a row gives instead of a token where none has any probability.
pub const NO_TOKEN: u32 = u32::MAX;
/// What a row with a NaN gives instead of a token.
pub const NAN_ROW: u32 = u32::MAX - 1;

/// Sums of masses in 64 bits hold fewer tokens than this.
pub const MAX_VOCAB: usize = 1 << 20;

/// Repetition penalty, top-k, top-p and min-p.
pub static FILTER: Kernel = Kernel {
    name: "sample_filter",
    variant: PORTABLE,
    source: shader!("sample/sample_filter.wgsl"),
    bindings: &[
        binding("logits", Role::In),
        binding("settings", Role::In),
        binding("context", Role::In),
        binding("kept", Role::Out),
    ],
    params: FilterParams::LAYOUT,
    requires: &[],
};

/// One draw a row.
pub static DRAW: Kernel = Kernel {
    name: "sample_draw",
    variant: PORTABLE,
    source: shader!("sample/sample_draw.wgsl"),
    bindings: &[
        binding("kept", Role::In),
        binding("settings", Role::In),
        binding("tokens", Role::Out),
    ],
    params: DrawParams::LAYOUT,
    requires: &[],
};

/// How tokens are chosen from logits. What is kept is decided in this order, that of Hugging Face's
/// processors: repetition penalty, temperature, top-k, top-p, min-p. (llama.cpp divides by the temperature
/// last, so that its top-p and min-p see the model's own probabilities.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Keeps the k largest; `None` keeps all.
    pub top_k: Option<usize>,
    /// Keeps the smallest set of at least this mass; `None` keeps all.
    pub top_p: Option<f32>,
    /// Keeps what is at least as probable as this share of the likeliest; `None` keeps all.
    pub min_p: Option<f32>,
    /// Divides positive logits of the context's tokens and multiplies negative ones (Keskar et al. 2019,
    /// section 4.1); 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
        }
    }
}

/// Words of a row's settings, see [`Sampling::words`].
pub const SETTINGS_WORDS: usize = 16;

impl Sampling {
    /// A row's settings as the shaders read them. Its context are the first `context` words of its row of
    /// contexts; seed and counter decide its draw.
    pub fn words(&self, context: usize, seed: u64, counter: u64) -> [u32; SETTINGS_WORDS] {
        let is_greedy = self.temperature == 0.0;
        let temperature = if is_greedy { 1.0 } else { self.temperature };
        let [mantissa, exponent] = scale(temperature);
        let top_k = if is_greedy {
            1
        } else {
            self.top_k.unwrap_or(usize::MAX)
        };
        let [top_p_low, top_p_high] = halves(self.top_p.map_or(u64::MAX, share));
        let [min_p_low, min_p_high] = halves(self.min_p.map_or(u64::MAX, halvings));
        let [seed_low, seed_high] = halves(seed);
        let [counter_low, counter_high] = halves(counter);
        [
            mantissa,
            exponent,
            u32::try_from(top_k).unwrap_or(u32::MAX),
            top_p_low,
            top_p_high,
            min_p_low,
            min_p_high,
            self.repetition_penalty.to_bits(),
            word(context),
            seed_low,
            seed_high,
            counter_low,
            counter_high,
            reciprocal(self.repetition_penalty),
            0,
            0,
        ]
    }
}

/// The low and the high word.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes)
}

/// Halvings of the mass for each unit of the logits, log2(e) / temperature, as 32 bits with a leading one
/// and an exponent.
fn scale(temperature: f32) -> [u32; 2] {
    let scale = std::f64::consts::LOG2_E / f64::from(temperature);
    let exponent = i32::from(((scale.to_bits() >> 52) & 0x7ff) as u16) - 1023 - 31;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "it is below 2^32, but for rounding, which saturates"
    )]
    let mantissa = (scale * f64::from(-exponent).exp2()).round() as u32;
    [mantissa, exponent.cast_unsigned()]
}

/// 2^63 divided by the 32-bit significand of `penalty`, rounded down: what a division by it begins with.
fn reciprocal(penalty: f32) -> u32 {
    let (exponent, fraction) = (
        penalty.to_bits() >> 23,
        (penalty.to_bits() & 0x7f_ffff) << 8,
    );
    let significand = match exponent {
        0 => fraction << fraction.leading_zeros(),
        _ => fraction | 1 << 31,
    };
    u32::try_from((u64::MAX >> 1) / u64::from(significand)).unwrap_or(u32::MAX)
}

/// A probability in units of 2^-64, all ones from 1 up.
#[allow(
    clippy::cast_possible_truncation,
    reason = "below 1 the product is below 2^64, and else saturates"
)]
fn share(p: f32) -> u64 {
    (f64::from(p) * 64f64.exp2()) as u64
}

/// How often a mass may be halved until it is below `p` of itself, in units of 2^-32; 0 may be halved for
/// ever.
#[allow(clippy::cast_possible_truncation, reason = "infinity saturates")]
fn halvings(p: f32) -> u64 {
    (-f64::from(p).log2() * 32f64.exp2()) as u64
}

/// Rows of logits with what decides about each.
#[derive(Clone, Copy, Debug)]
pub struct SampleRows {
    /// `[rows, vocab]`.
    pub logits: Tensor,
    /// [`Sampling::words`] of each row, `[rows, SETTINGS_WORDS]`.
    pub settings: Tensor,
    /// Ids that the repetition penalty is for, `[rows, any]`: of each row as many as its settings say, each
    /// below the vocabulary's size.
    pub context: Tensor,
}

/// Chooses a token for each row and writes it to `tokens` `[rows]`.
pub fn sample(plan: &mut Plan, rows: &SampleRows, tokens: Tensor) {
    let kept = filter(plan, rows);
    draw(plan, kept, rows.settings, tokens);
}

/// The logits `[rows, vocab]`, penalised, with minus infinity in place of those that may not be drawn.
///
/// # Panics
/// If the vocabulary is of 2^20 tokens or more.
pub fn filter(plan: &mut Plan, rows: &SampleRows) -> Tensor {
    let (logits, context) = (rows.logits, rows.context);
    assert!(logits.cols < MAX_VOCAB, "{} tokens", logits.cols);
    let kept = plan.scratch("kept_logits", logits.rows, logits.cols);
    let params = FilterParams {
        rows: word(logits.rows),
        vocab_size: word(logits.cols),
        context_stride: word(context.cols),
    };
    let bindings = [
        logits.into(),
        rows.settings.into(),
        context.into(),
        kept.into(),
    ];
    // A workgroup a row.
    let dispatch = Dispatch::new(&FILTER, params, bindings);
    plan.push(dispatch.workgroups([word(logits.rows), 1, 1]));
    kept
}

/// Draws a token of each row of logits `kept` `[rows, vocab]`, divided by the temperature of its settings.
pub fn draw(plan: &mut Plan, kept: Tensor, settings: Tensor, tokens: Tensor) {
    let params = DrawParams {
        rows: word(kept.rows),
        vocab_size: word(kept.cols),
        stream: Stream::Sample as u32,
    };
    let bindings = [kept.into(), settings.into(), tokens.into()];
    let dispatch = Dispatch::new(&DRAW, params, bindings);
    plan.push(dispatch.workgroups([word(kept.rows), 1, 1]));
}
