//! Which windows score a sequence that is longer than the context.

use std::ops::Range;

/// A part of a sequence that one forward pass reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens that the model reads, as positions of the sequence.
    pub inputs: Range<usize>,
    /// The tokens that it scores: each from those before it, up to the one behind the last input.
    pub scored: Range<usize>,
}

/// Windows over a sequence of `len` tokens, of which the first is context alone, such that each other one is
/// scored once. The first window scores up to `context_length` tokens; each further one scores up to
/// `stride` and reads what comes before them, up to `context_length` tokens in all: at least
/// `context_length - stride + 1` before the first that it scores.
///
/// With a stride of `context_length` these are the rolling windows of EleutherAI's `lm_eval` with a context
/// of one token (`get_rolling_token_windows`); a stride of `s` is its context of `context_length - s + 1`.
///
/// # Panics
/// If `stride` is not in `1..=context_length`.
pub fn windows(len: usize, context_length: usize, stride: usize) -> impl Iterator<Item = Window> {
    assert!(
        (1..=context_length).contains(&stride),
        "a stride of {stride}"
    );
    let mut next = 1;
    std::iter::from_fn(move || {
        if next >= len {
            return None;
        }
        let most = if next == 1 { context_length } else { stride };
        let end = len.min(next + most);
        let window = Window {
            inputs: (end - 1).saturating_sub(context_length)..end - 1,
            scored: next..end,
        };
        next = end;
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(len: usize, context_length: usize, stride: usize) -> Vec<[Range<usize>; 2]> {
        let all = windows(len, context_length, stride);
        all.map(|w| [w.inputs, w.scored]).collect()
    }

    #[test]
    fn a_stride_of_the_context_gives_the_rolling_windows_of_lm_eval() {
        // 34 tokens behind one of context, windows of 10: what `lm_eval`'s `get_rolling_token_windows` gives
        // for a context of 1, and for one of 5.
        assert_eq!(
            ranges(35, 10, 10),
            [
                [0..10, 1..11],
                [10..20, 11..21],
                [20..30, 21..31],
                [24..34, 31..35]
            ]
        );
        assert_eq!(
            ranges(35, 10, 6),
            [
                [0..10, 1..11],
                [6..16, 11..17],
                [12..22, 17..23],
                [18..28, 23..29],
                [24..34, 29..35]
            ]
        );
    }

    #[test]
    fn every_token_but_the_first_is_scored_once_and_sees_what_the_stride_promises() {
        for context_length in [1, 2, 7, 16] {
            for stride in 1..=context_length {
                for len in 0..50 {
                    let mut next = 1;
                    for Window { inputs, scored } in windows(len, context_length, stride) {
                        assert_eq!(scored.start, next);
                        assert_eq!(scored.end, inputs.end + 1);
                        assert!(!scored.is_empty() && inputs.len() <= context_length);
                        let seen = scored.start - inputs.start;
                        let promised = (context_length - stride + 1).min(scored.start);
                        assert!(seen >= promised, "{seen} of {promised}");
                        next = scored.end;
                    }
                    assert_eq!(next, len.max(1));
                }
            }
        }
    }

    #[test]
    fn what_fits_the_context_is_one_window() {
        assert!(ranges(0, 8, 4).is_empty() && ranges(1, 8, 4).is_empty());
        assert_eq!(ranges(2, 8, 4), [[0..1, 1..2]]);
        assert_eq!(ranges(9, 8, 1), [[0..8, 1..9]]);
        assert_eq!(ranges(10, 8, 1), [[0..8, 1..9], [1..9, 9..10]]);
    }
}
