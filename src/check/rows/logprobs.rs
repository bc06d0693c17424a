//! Rows of the log-probabilities of tokens: ids equal the reference's, and rows that are no distribution
//! say so in bits.

use super::{Table, side_by_side};
use crate::check::Case;
use crate::gpu::Tensor;
use crate::kernels::logprobs::{self, MAX_TOP, NO_TOKEN, TOKEN_LOGPROBS, row_words};
use crate::reference::logprobs as reference;

/// The sum and its logarithm are f32 of few roundings, the exponentials of the largest terms too; WGSL
/// allows a logarithm of up to 2 an error of 2^-21.
const TOLERANCE: f64 = 1e-6;

const NAN: u32 = 0x7fc0_0000;

/// Rows and vocabulary: size one, around the 256 lanes, and more than a lane adds up at once.
const SHAPES: [(usize, usize); 9] = [
    (1, 1),
    (3, 7),
    (2, 63),
    (3, 255),
    (2, 256),
    (2, 257),
    (70, 65),
    (3, 5003),
    (2, 70_001),
];

pub(super) fn rows(table: &mut Table) {
    for (rows, vocab) in SHAPES {
        for top in [0, 1, 5, MAX_TOP] {
            for (scale, gap) in [(1.0, 0), (8.0, 3)] {
                let shape = format!("{rows}x{vocab}, top {top}, scale {scale}, gap {gap}");
                table.add_once(&TOKEN_LOGPROBS, shape, move |case| {
                    let logits = (0..rows).flat_map(|row| match row % 3 {
                        0 => spread(case, vocab, scale),
                        1 => coarse(case, vocab),
                        _ => masked(case, vocab),
                    });
                    let logits: Vec<f64> = logits.collect();
                    distributions(case, rows, &logits, gap, top);
                });
            }
        }
    }
    table.add_once(&TOKEN_LOGPROBS, "edge cases", |case| {
        let logits = edge_cases(300);
        distributions(case, logits.len(), &logits.concat(), 1, MAX_TOP);
    });
    table.add_once(&TOKEN_LOGPROBS, "one token takes all", |case| {
        // All but one at minus infinity: its log-probability is an exact zero.
        let mut logits = vec![f64::NEG_INFINITY; 600];
        logits[300 + 299] = -7.5;
        logits[17] = 3e38;
        let tensor = case.floats(2, 300, logits).tensor;
        let tokens = case.words(&[17, 4]);
        let output = output(case, tensor, tokens, 2);
        case.expect_exactly("token", output.columns(0, 1), &[0.0, f64::NEG_INFINITY]);
        let want = [0.0, f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY];
        case.expect_words("ids", output.columns(1, 2), vec![17, 0, 299, 0]);
        case.expect_exactly("logprobs", output.columns(3, 2), &want);
    });
    table.add_once(&TOKEN_LOGPROBS, "no distributions", no_distributions);
    table.add_once(&TOKEN_LOGPROBS, "no such token", |case| {
        let logits = case.random(3, 40, 1.0).tensor;
        let tokens = case.words(&[40, u32::MAX, 41]);
        let output = output(case, logits, tokens, 0);
        case.expect_words("token", output, vec![NAN; 3]);
    });
    let shape = "200x24, top 3, in bindings of 2048 words";
    table.add_once(&TOKEN_LOGPROBS, shape, |case| {
        case.plan.set_max_binding_words(2048);
        let logits: Vec<f64> = (0..200).flat_map(|_| spread(case, 24, 2.0)).collect();
        distributions(case, 200, &logits, 0, 3);
    });
    // One row more than a dimension has workgroups.
    table.add_once(&TOKEN_LOGPROBS, "65537x2, top 1", |case| {
        let logits = super::large::cheap(case, 65_537, 2).values;
        distributions(case, 65_537, &logits, 0, 1);
    });
}

/// Logits as a model's, few of them equal.
fn spread(case: &mut Case, vocab: usize, scale: f64) -> Vec<f64> {
    (0..vocab).map(|_| rounded(case.normal() * scale)).collect()
}

/// Logits on a coarse grid, so that many are equal.
fn coarse(case: &mut Case, vocab: usize) -> Vec<f64> {
    let logit = |_| f64::from(case.below(9)) / 2.0 - 2.0;
    (0..vocab).map(logit).collect()
}

/// With all but a few of the logits at minus infinity.
fn masked(case: &mut Case, vocab: usize) -> Vec<f64> {
    let mut logits = spread(case, vocab, 3.0);
    for (id, logit) in logits.iter_mut().enumerate() {
        if id % 11 != vocab / 2 % 11 {
            *logit = f64::NEG_INFINITY;
        }
    }
    logits
}

#[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Rows that floats make hard.
fn edge_cases(vocab: usize) -> Vec<Vec<f64>> {
    let tiny = f64::from(f32::from_bits(1));
    let some = |values: &[f64]| {
        let mut logits = vec![f64::NEG_INFINITY; vocab];
        logits[100..100 + values.len()].copy_from_slice(values);
        logits
    };
    let all = |logit: &dyn Fn(usize) -> f64| (0..vocab).map(logit).collect();
    vec![
        all(&|_| 0.0),
        all(&|_| -3.5),
        all(&|_| 1e30),
        some(&[1.0]),
        some(&[-0.0, 0.0, tiny, -tiny, 3.0 * tiny]),
        some(&[1e-30f32, -1e-30, 2e-38, 1.0, 1f32.next_up()].map(f64::from)),
        all(&|id| if id % 2 == 0 { 0.0 } else { -0.0 }),
        all(&|id| id as f64 * 1024.0),
        all(&|id| -(id as f64) / 1024.0),
        // The likeliest are all one lane's.
        all(&|id| if id % 256 == 43 { 5.0 } else { 0.0 }),
    ]
}

fn output(case: &mut Case, logits: Tensor, tokens: Tensor, top: usize) -> Tensor {
    let plan = &mut case.plan;
    let output = plan.scratch("logprobs", logits.rows, row_words(top));
    logprobs::token_logprobs(plan, logits, tokens, top, output);
    output
}

/// Rows of `logits` that are distributions, with so many words between them; of each a token of any rank.
fn distributions(case: &mut Case, rows: usize, logits: &[f64], gap: usize, top: usize) {
    let vocab = logits.len() / rows;
    let nothing = vec![f64::NAN; rows * gap];
    let given = side_by_side(rows, &[logits, &nothing]);
    let tensor = case.floats(rows, vocab + gap, given).tensor;
    let tokens: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
    let token_tensor = case.words(&tokens);
    let output = output(case, tensor.columns(0, vocab), token_tensor, top);
    let tokens: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
    let want = reference::token_logprobs(logits, &tokens, top);
    let of_token = want.iter().map(|row| row.token).collect();
    case.expect_within("token", output.columns(0, 1), of_token, TOLERANCE);
    if top == 0 {
        return;
    }
    let (mut ids, mut of_top) = (Vec::new(), Vec::new());
    for row in &want {
        let found = row.top.iter();
        let found = found.map(|&(id, logprob)| (u32::try_from(id).expect("ids fit u32"), logprob));
        let none = std::iter::repeat((NO_TOKEN, f64::NEG_INFINITY));
        for (id, logprob) in found.chain(none).take(top) {
            ids.push(id);
            of_top.push(logprob);
        }
    }
    case.expect_words("ids", output.columns(1, top), ids);
    let of_top_tensor = output.columns(1 + top, top);
    case.expect_within("logprobs", of_top_tensor, of_top, TOLERANCE);
}

/// Rows that are no distribution, each between two that are.
fn no_distributions(case: &mut Case) {
    const VOCAB: usize = 300;
    let good: Vec<u32> = (0..VOCAB).map(|id| (id as f32).to_bits()).collect();
    let with = |id: usize, bits: u32| {
        let mut row = good.clone();
        row[id] = bits;
        row
    };
    let bad = [
        // NaN, signalling and quiet, of either sign, and beside an infinity.
        with(0, 0x7f80_0001),
        with(299, 0xff80_0001),
        with(256, NAN),
        with(255, 0xffff_ffff),
        with(7, f32::INFINITY.to_bits()),
        vec![f32::NEG_INFINITY.to_bits(); VOCAB],
    ];
    let rows: Vec<u32> = bad
        .iter()
        .flat_map(|row| [row.clone(), good.clone()].concat())
        .collect();
    let count = 2 * bad.len();
    let logits = case.words(&rows).reshape(count, VOCAB);
    let tokens = case.words(&vec![3; count]);
    let output = output(case, logits, tokens, 2);
    let ids = [NO_TOKEN, NO_TOKEN, 299, 298].repeat(bad.len());
    case.expect_words("ids", output.columns(1, 2), ids);
    for row in (0..count).step_by(2) {
        let of_row = output.slice_rows(row, 1);
        case.expect_words("token", of_row.columns(0, 1), vec![NAN]);
        case.expect_words("logprobs", of_row.columns(3, 2), vec![NAN; 2]);
    }
}
