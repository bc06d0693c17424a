//! Rows of the sampler: what is kept equals the reference's set, bit by bit, and so does what is drawn.

use super::Table;
use crate::check::Case;
use crate::gpu::Tensor;
use crate::kernels::sample::{self, SETTINGS_WORDS, SampleRows, Sampling};
use crate::random::Stream;
use crate::reference;
use crate::reference::sample as reference_sample;

/// Rows and vocabulary: size one, around the 256 lanes, and more ids than two digits of their order count.
const SHAPES: [(usize, usize); 8] = [
    (1, 1),
    (3, 7),
    (2, 63),
    (2, 65),
    (2, 255),
    (2, 257),
    (3, 1030),
    (1, 70_001),
];

/// One row of logits and what is asked of it.
struct Asked {
    logits: Vec<f64>,
    context: Vec<usize>,
    sampling: Sampling,
}

pub(super) fn rows(table: &mut Table) {
    for (rows, vocab) in SHAPES {
        for (name, sampling) in settings() {
            let shape = format!("{rows}x{vocab}, {name}");
            table.add_once(&sample::FILTER, shape, move |case| {
                let asked = (0..rows).map(|row| match row % 2 {
                    0 => asked(coarse(case, vocab), sampling),
                    _ => asked(spread(case, vocab), sampling),
                });
                let asked = asked.collect();
                filter(case, vocab, asked);
            });
        }
        table.add_once(&sample::DRAW, format!("{rows}x{vocab}"), move |case| {
            let asked = (0..rows).map(|row| {
                let logits = match row % 2 {
                    0 => coarse(case, vocab),
                    _ => spread(case, vocab),
                };
                asked(masked(case, logits), Sampling::default())
            });
            let asked = asked.collect();
            draw(case, vocab, asked);
        });
    }
    table.add_once(&sample::FILTER, "edge cases", |case| {
        filter(case, 300, edge_cases(300));
    });
    table.add_once(&sample::DRAW, "edge cases", |case| {
        let drawable = edge_cases(300).into_iter().filter(|asked| {
            let is_possible = |logit: &f64| *logit > f64::NEG_INFINITY;
            asked.logits.iter().any(is_possible)
        });
        draw(case, 300, drawable.collect());
    });
    table.add_once(&sample::DRAW, "rows without a token", |case| {
        let none = vec![f64::NEG_INFINITY; 40];
        // Signalling and quiet, of either sign, alone and beside an infinity.
        let bits = [0x7f80_0001, 0xff80_0001, 0x7fc0_0000, 0xffff_ffff];
        let mut rows: Vec<Vec<u32>> = vec![words(&none)];
        for (i, bits) in bits.into_iter().enumerate() {
            let mut logits = words(&coarse(case, 40));
            logits[7] = f32::INFINITY.to_bits();
            logits[i * 13] = bits;
            rows.push(logits);
        }
        let mut want = vec![sample::NAN_ROW; rows.len()];
        want[0] = sample::NO_TOKEN;
        no_tokens(case, &rows, want);
    });
    table.add_once(&sample::FILTER, "128x4096, mixed", |case| {
        let asked = mixed(case, 128, 4096);
        filter(case, 4096, asked);
    });
    table.add_once(&sample::DRAW, "128x4096, mixed", |case| {
        let asked = mixed(case, 128, 4096);
        draw(case, 4096, asked);
    });
}

/// Names of settings: each filter alone at both ends, and all at once.
fn settings() -> Vec<(String, Sampling)> {
    let usual = Sampling {
        temperature: 0.8,
        ..Sampling::default()
    };
    let mut named = vec![
        ("all".to_owned(), usual),
        (
            "greedy".to_owned(),
            Sampling {
                temperature: 0.0,
                ..usual
            },
        ),
    ];
    for k in [1, 3, 50, 2000] {
        let top_k = Some(k);
        named.push((format!("k {k}"), Sampling { top_k, ..usual }));
    }
    for p in [1e-6, 0.05, 0.5, 0.93, 0.999_99, 1.0] {
        let top_p = Some(p);
        named.push((format!("p {p}"), Sampling { top_p, ..usual }));
    }
    for p in [0.0, 1e-4, 0.1, 1.0] {
        let min_p = Some(p);
        named.push((format!("min-p {p}"), Sampling { min_p, ..usual }));
    }
    for repetition_penalty in [0.7, 1.3] {
        let sampling = Sampling {
            repetition_penalty,
            top_k: Some(20),
            ..usual
        };
        named.push((format!("penalty {repetition_penalty}, k 20"), sampling));
    }
    let every = Sampling {
        temperature: 1.7,
        top_k: Some(40),
        top_p: Some(0.8),
        min_p: Some(0.2),
        repetition_penalty: 1.1,
    };
    named.push(("every filter".to_owned(), every));
    named
}

fn asked(logits: Vec<f64>, sampling: Sampling) -> Asked {
    // Some ids, one of them twice.
    let vocab = logits.len();
    let context = (0..vocab.min(24)).map(|i| i * 7 % vocab).collect();
    Asked {
        logits,
        context,
        sampling,
    }
}

/// Logits on a coarse grid, so that many are equal.
fn coarse(case: &mut Case, vocab: usize) -> Vec<f64> {
    let logit = |_| f64::from(case.below(9)) / 2.0 - 2.0;
    (0..vocab).map(logit).collect()
}

/// Logits as a model's, few of them equal.
fn spread(case: &mut Case, vocab: usize) -> Vec<f64> {
    (0..vocab).map(|_| rounded(case.normal() * 3.0)).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// With a third of the logits at minus infinity, but one.
fn masked(case: &mut Case, mut logits: Vec<f64>) -> Vec<f64> {
    let vocab = logits.len();
    for id in 0..vocab {
        if case.below(3) == 0 && id != vocab / 2 {
            logits[id] = f64::NEG_INFINITY;
        }
    }
    logits
}

/// Rows of one batch with different settings, drawn at random.
fn mixed(case: &mut Case, rows: usize, vocab: usize) -> Vec<Asked> {
    let mut all = Vec::new();
    for _ in 0..rows {
        let mut maybe = |value: f32| (case.below(3) > 0).then_some(value);
        let [k, p, min_p] = [1.0, 1.0, 1.0].map(&mut maybe);
        let top_k = k.map(|_| 1 + (case.below(30) * case.below(30)) as usize);
        let mut uniform = || case.below(1 << 20) as f32 / (1 << 20) as f32;
        let sampling = Sampling {
            temperature: 0.2 + 2.0 * uniform(),
            top_k,
            top_p: p.map(|_| 0.01 + 0.98 * uniform()),
            min_p: min_p.map(|_| 0.2 * uniform() * uniform()),
            repetition_penalty: 0.8 + 0.6 * uniform(),
        };
        all.push(asked(spread(case, vocab), sampling));
    }
    all
}

/// Rows that floats make hard.
fn edge_cases(vocab: usize) -> Vec<Asked> {
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    let (most, tiny) = (f64::from(f32::MAX), f64::from(f32::from_bits(1)));
    let equal = |logit| vec![logit; vocab];
    let some = |values: &[f64]| {
        let mut logits = vec![low; vocab];
        logits[100..100 + values.len()].copy_from_slice(values);
        logits
    };
    let rows = [
        equal(0.0),
        equal(-3.5),
        equal(high),
        equal(low),
        some(&[1.0]),
        some(&[high, 3.0, high, low, high]),
        some(&[most, -most, most, 0.0]),
        some(&[-0.0, 0.0, tiny, -tiny, 3.0 * tiny]),
        some(&[1e-30f32, -1e-30, 2e-38, 1.0, 1f32.next_up()].map(f64::from)),
        (0..vocab)
            .map(|id| if id % 2 == 0 { 0.0 } else { -0.0 })
            .collect(),
        (0..vocab).map(|id| id as f64 * 1024.0).collect(),
        (0..vocab).map(|id| -(id as f64) / 1024.0).collect(),
    ];
    let penalties = [1e-40, 0.3, 1f32.next_up(), 3.0, 1e38].map(|repetition_penalty| Sampling {
        repetition_penalty,
        ..Sampling::default()
    });
    let mut all = Vec::new();
    for logits in rows {
        let named = settings().into_iter().map(|(_, sampling)| sampling);
        for mut sampling in named.chain(penalties) {
            // The tie of half of all equal logits.
            sampling.top_p = sampling.top_p.map(|p| if p == 0.93 { 0.5 } else { p });
            for temperature in [1e-6, 1.0, 1e6] {
                if sampling.temperature > 0.0 {
                    sampling.temperature = temperature;
                }
                all.push(Asked {
                    logits: logits.clone(),
                    context: (96..110).chain([101, 299]).collect(),
                    sampling,
                });
            }
        }
    }
    all
}

fn words(values: &[f64]) -> Vec<u32> {
    #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
    let bits = values.iter().map(|&v| (v as f32).to_bits());
    bits.collect()
}

/// Seed and counter of a row, with a counter whose low word is about to wrap.
fn seeded(row: usize) -> (u64, u64) {
    let row = row as u64;
    (0x0123_4567_89ab_cdef ^ row, u64::from(u32::MAX) - 1 + row)
}

fn settings_of(case: &mut Case, asked: &[Asked]) -> Tensor {
    let words = asked.iter().enumerate().flat_map(|(row, asked)| {
        let (seed, counter) = seeded(row);
        asked.sampling.words(asked.context.len(), seed, counter)
    });
    let words: Vec<u32> = words.collect();
    case.words(&words).reshape(asked.len(), SETTINGS_WORDS)
}

/// What the reference keeps of a row.
fn kept(asked: &Asked) -> Vec<f64> {
    let sampling = &asked.sampling;
    let penalty = f64::from(sampling.repetition_penalty);
    let logits = reference_sample::penalise(&asked.logits, &asked.context, penalty);
    let stages = reference_sample::Stages {
        temperature: f64::from(sampling.temperature),
        top_k: sampling.top_k,
        top_p: sampling.top_p.map(f64::from),
        min_p: sampling.min_p.map(f64::from),
    };
    reference_sample::filter(&logits, &stages)
}

fn filter(case: &mut Case, vocab: usize, asked: Vec<Asked>) {
    let logits = asked.iter().flat_map(|asked| words(&asked.logits));
    let logits: Vec<u32> = logits.collect();
    let logits = case.words(&logits).reshape(asked.len(), vocab);
    let settings = settings_of(case, &asked);
    let stride = asked.iter().map(|a| a.context.len()).max().unwrap_or(1);
    let contexts = asked.iter().flat_map(|asked| {
        let ids = asked
            .context
            .iter()
            .map(|&id| u32::try_from(id).expect("ids fit u32"));
        ids.chain(std::iter::repeat(u32::MAX)).take(stride)
    });
    let contexts: Vec<u32> = contexts.collect();
    let rows = SampleRows {
        logits,
        settings,
        context: case.words(&contexts).reshape(asked.len(), stride),
    };
    let kept_logits = sample::filter(&mut case.plan, &rows);
    // The kernel gives -0 as 0.
    let want = asked
        .iter()
        .flat_map(|asked| kept(asked).into_iter().map(|v| v + 0.0));
    let want: Vec<f64> = want.collect();
    case.expect_words("kept", kept_logits, words(&want));
}

fn draw(case: &mut Case, vocab: usize, asked: Vec<Asked>) {
    let logits = asked.iter().flat_map(|asked| words(&asked.logits));
    let logits: Vec<u32> = logits.collect();
    let logits = case.words(&logits).reshape(asked.len(), vocab);
    let settings = settings_of(case, &asked);
    let tokens = case.plan.scratch("tokens", 1, asked.len());
    sample::draw(&mut case.plan, logits, settings, tokens);
    let want = asked.iter().enumerate().map(|(row, asked)| {
        let (seed, counter) = seeded(row);
        // Where the settings have them.
        let words = asked.sampling.words(0, seed, counter);
        let (key, [low, high]) = ([words[9], words[10]], [words[11], words[12]]);
        let random = reference::philox::philox4x32_10([low, high, Stream::Sample as u32, 0], key);
        let uniform = f64::from(random[0] >> 8) / f64::from(1u32 << 24);
        let temperature = match asked.sampling.temperature {
            0.0 => 1.0,
            temperature => f64::from(temperature),
        };
        let weights = reference_sample::weights(&asked.logits, temperature);
        u32::try_from(reference_sample::draw(&weights, uniform)).expect("ids fit u32")
    });
    let want = want.collect();
    case.expect_words("tokens", tokens, want);
}

/// Rows of bits that end in no token, by both kernels.
fn no_tokens(case: &mut Case, rows: &[Vec<u32>], want: Vec<u32>) {
    let logits = case
        .words(&rows.concat())
        .reshape(rows.len(), rows[0].len());
    let sampling = Sampling {
        top_k: Some(5),
        top_p: Some(0.9),
        min_p: Some(0.1),
        ..Sampling::default()
    };
    let settings: Vec<u32> = rows.iter().flat_map(|_| sampling.words(0, 1, 2)).collect();
    let rows = SampleRows {
        logits,
        settings: case.words(&settings).reshape(rows.len(), SETTINGS_WORDS),
        context: case.words(&vec![0; rows.len()]).reshape(rows.len(), 1),
    };
    let tokens = case.plan.scratch("tokens", 1, want.len());
    sample::sample(&mut case.plan, &rows, tokens);
    case.expect_words("tokens", tokens, want);
}
