//! Log-probabilities of given tokens and of the likeliest ones, from rows of logits.

use super::binding;
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::tensor::ALIGNMENT_WORDS;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(LogprobsParams {
    rows: u32,
    vocab_size: u32,
    row_stride: u32,
    top: u32
});

/// Most of the likeliest tokens of a row that can be asked for.
pub const MAX_TOP: usize = 20;
/// The id in place of a likeliest token that there is not.
pub const NO_TOKEN: u32 = u32::MAX;

/// Log-probabilities of a token a row, and of the likeliest.
pub static TOKEN_LOGPROBS: Kernel = Kernel {
    name: "token_logprobs",
    variant: PORTABLE,
    source: shader!("token_logprobs.wgsl"),
    bindings: &[
        binding("logits", Role::In),
        binding("tokens", Role::In),
        binding("logprobs", Role::Out),
    ],
    params: LogprobsParams::LAYOUT,
    requires: &[],
};

/// Words of a row of results with the `top` likeliest tokens.
pub fn row_words(top: usize) -> usize {
    1 + 2 * top
}

/// Writes to `output` `[rows, 1 + 2 * top]` for each row of `logits` `[rows, vocab]`, which may have gaps
/// between rows: the log-probability in nats of the row's token in `tokens` `[rows]`, the ids of the `top`
/// likeliest tokens, of equal ones the lowest id first, and their log-probabilities.
///
/// A row with a NaN, with an infinity, or with nothing but minus infinities is no distribution: its
/// log-probabilities are NaN and its ids [`NO_TOKEN`]. A token outside of the vocabulary has NaN. Where the
/// vocabulary has fewer than `top` tokens, the rest are [`NO_TOKEN`] with minus infinity.
///
/// # Panics
/// If the shapes do not fit, or `top` is over [`MAX_TOP`]: a bug of the caller.
pub fn token_logprobs(plan: &mut Plan, logits: Tensor, tokens: Tensor, top: usize, output: Tensor) {
    assert!(top <= MAX_TOP, "the {top} likeliest tokens");
    assert_eq!(tokens.len(), logits.rows, "a token a row");
    assert!(output.is_dense(), "{output:?} has gaps");
    assert_eq!(
        (output.rows, output.cols),
        (logits.rows, row_words(top)),
        "a row of results a row"
    );
    // Blocks begin where the tokens can be bound too.
    for rows in plan.row_blocks(&[logits, output], ALIGNMENT_WORDS) {
        let block = logits.slice_rows(rows.start, rows.len());
        let params = LogprobsParams {
            rows: word(rows.len()),
            vocab_size: word(block.cols),
            row_stride: word(block.row_stride),
            top: word(top),
        };
        let bindings = [
            block.into(),
            tokens.slice(rows.start, rows.len()).into(),
            output.slice_rows(rows.start, rows.len()).into(),
        ];
        plan.push(
            Dispatch::new(&TOKEN_LOGPROBS, params, bindings)
                .workgroups(flat_workgroups(rows.len(), 1))
                .flops(4 * block.len()),
        );
    }
}
