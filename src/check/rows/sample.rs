//! Rows of the sampler, ties included.

use super::Table;
use crate::check::Case;
use crate::kernels::sample;
use crate::random::Stream;
use crate::reference::{self, sample as reference_sample};

/// `[rows, vocab]`: size one, around 8 and 64 lanes, and fewer ids than lanes.
const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 7), (2, 63), (2, 64), (3, 65), (2, 1030)];

pub(super) fn rows(table: &mut Table) {
    for (rows, vocab) in SHAPES {
        for count in [1, 3, 50, 2000] {
            table.add_once(
                &sample::TOP_K,
                format!("{rows}x{vocab}, k {count}"),
                move |case| {
                    top_k(case, rows, vocab, count);
                },
            );
        }
        for mass in [0.05, 0.5, 0.93] {
            table.add_once(
                &sample::TOP_P,
                format!("{rows}x{vocab}, p {mass}"),
                move |case| {
                    top_p(case, rows, vocab, mass);
                },
            );
        }
        table.add_once(&sample::DRAW, format!("{rows}x{vocab}"), move |case| {
            draw(case, rows, vocab)
        });
        table.add_once(&sample::GREEDY, format!("{rows}x{vocab}"), move |case| {
            let logits = coarse(case, rows, vocab);
            let tokens = case.plan.scratch("tokens", 1, rows);
            sample::greedy(&mut case.plan, logits.tensor, tokens);
            case.expect_words(
                "tokens",
                tokens,
                per_row(&logits.values, vocab, reference_sample::greedy),
            );
        });
    }
}

/// Logits on a coarse grid, so that many are equal.
fn coarse(case: &mut Case, rows: usize, vocab: usize) -> crate::check::Data {
    let values = (0..rows * vocab)
        .map(|_| f64::from(case.below(9)) / 2.0 - 2.0)
        .collect();
    case.floats(rows, vocab, values)
}

fn per_row(values: &[f64], vocab: usize, choose: impl Fn(&[f64]) -> usize) -> Vec<u32> {
    let chosen = values.chunks(vocab).map(choose);
    chosen
        .map(|id| u32::try_from(id).expect("ids fit u32"))
        .collect()
}

fn top_k(case: &mut Case, rows: usize, vocab: usize, count: usize) {
    let logits = coarse(case, rows, vocab);
    let scaled = sample::top_k(&mut case.plan, logits.tensor, count, 0.8);
    // The host passes an f32 temperature. Minus infinity is the most negative float in WGSL.
    let temperature = f64::from(0.8f32);
    let want = logits.values.chunks(vocab).flat_map(|row| {
        let kept = reference_sample::top_k(row, count.min(vocab));
        kept.into_iter().map(|v| {
            if v == f64::NEG_INFINITY {
                f64::from(f32::MIN)
            } else {
                v / temperature
            }
        })
    });
    let want = want.collect();
    case.expect("scaled", scaled, want);
}

fn top_p(case: &mut Case, rows: usize, vocab: usize, mass: f64) {
    let logits = coarse(case, rows, vocab);
    let probabilities = reference::softmax::forward(&logits.values, vocab);
    #[allow(clippy::cast_possible_truncation, reason = "rounds as the upload does")]
    let rounded: Vec<f64> = probabilities.iter().map(|&p| f64::from(p as f32)).collect();
    let input = case.floats(rows, vocab, rounded);
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    let kept = sample::top_p(&mut case.plan, input.tensor, mass as f32);
    let want = input
        .values
        .chunks(vocab)
        .flat_map(|row| reference_sample::top_p(row, mass))
        .collect();
    case.expect("kept", kept, want);
}

fn draw(case: &mut Case, rows: usize, vocab: usize) {
    let seed = 0x0123_4567_89ab_cdef;
    let counter = u64::from(u32::MAX) - 1;
    // Many zeros, as behind a filter; every row keeps one positive mass.
    let mut values = vec![0.0; rows * vocab];
    for row in values.chunks_mut(vocab) {
        for id in 0..vocab {
            row[id] = f64::from(case.below(3)) / 4.0;
        }
        row[vocab / 2] = 0.25;
    }
    let masses = case.floats(rows, vocab, values);
    let words = case.words(&sample::draw_words(seed, counter));
    let tokens = case.plan.scratch("tokens", 1, rows);
    sample::draw(&mut case.plan, masses.tensor, words, tokens);
    let want = masses
        .values
        .chunks(vocab)
        .zip(counter..)
        .map(|(row, counter)| {
            let [low, high, ..] = sample::draw_words(counter, 0);
            let key = sample::draw_words(seed, 0);
            let random = reference::philox::philox4x32_10(
                [low, high, Stream::Sample as u32, 0],
                [key[0], key[1]],
            );
            let uniform = f64::from(random[0] >> 8) / f64::from(1u32 << 24);
            u32::try_from(reference_sample::draw(row, uniform)).expect("ids fit u32")
        });
    let want = want.collect();
    case.expect_words("tokens", tokens, want);
}
