//! Draws on the device: their frequencies, and that a row does not see the rows beside it.

use gpu_tlm::gpu::{Device, DeviceOptions, Executable, Memory, Plan};
use gpu_tlm::kernels::sample::{self, NAN_ROW, NO_TOKEN, SETTINGS_WORDS, SampleRows, Sampling};
use gpu_tlm::reference::sample::{Stages, distribution};

/// A row of a batch.
#[derive(Clone)]
struct Row {
    logits: Vec<f32>,
    context: Vec<u32>,
    sampling: Sampling,
    seed: u64,
    counter: u64,
}

const VOCAB: usize = 300;
const CONTEXT: usize = 8;

/// The tokens of a batch.
fn tokens(device: &Device, rows: &[Row]) -> Vec<u32> {
    let mut memory = Memory::default();
    let matrices = [
        ("logits", VOCAB),
        ("settings", SETTINGS_WORDS),
        ("context", CONTEXT),
        ("tokens", 1),
    ];
    let ids = matrices.map(|(name, cols)| memory.declare(name, rows.len() * cols));
    let buffers = memory.allocate(device).unwrap();
    let mut plan = Plan::new(device.target());
    let [logits, settings, context, tokens] = [0, 1, 2, 3].map(|i| {
        let (cols, len) = (matrices[i].1, rows.len() * matrices[i].1);
        let vector = plan.persistent(&memory, ids[i]).slice(0, len);
        vector.reshape(rows.len(), cols)
    });
    let section = plan.section();
    let batch = SampleRows {
        logits,
        settings,
        context,
    };
    sample::sample(&mut plan, &batch, tokens);
    let settings = rows
        .iter()
        .flat_map(|row| row.sampling.words(row.context.len(), row.seed, row.counter));
    let contexts = rows.iter().flat_map(|row| {
        let ids = row.context.iter().copied();
        ids.chain(std::iter::repeat(0)).take(CONTEXT)
    });
    let logits: Vec<f32> = rows.iter().flat_map(|row| row.logits.clone()).collect();
    buffers.write(device, ids[0], 0, &logits);
    buffers.write(device, ids[1], 0, &settings.collect::<Vec<u32>>());
    buffers.write(device, ids[2], 0, &contexts.collect::<Vec<u32>>());
    let executable = Executable::compile(&plan, device, &buffers).unwrap();
    executable.run(device, section).unwrap();
    buffers.read(device, ids[3], 0, rows.len()).unwrap()
}

fn logits(shift: usize) -> Vec<f32> {
    let logit = |id: usize| ((id + shift) * 7919 % 1009) as f32 / 200.0 - 2.5;
    (0..VOCAB).map(logit).collect()
}

fn device() -> Device {
    Device::open(&DeviceOptions::default()).unwrap()
}

#[test]
fn drawn_frequencies_are_those_of_the_distribution() {
    const DRAWS: usize = 20_000;
    let device = device();
    for (temperature, top_p) in [(1.0, None), (0.4, None), (1.5, Some(0.5))] {
        let row = Row {
            logits: logits(0),
            context: Vec::new(),
            sampling: Sampling {
                temperature,
                top_p,
                ..Sampling::default()
            },
            seed: 11,
            counter: 0,
        };
        let rows: Vec<Row> = (0..DRAWS as u64)
            .map(|i| Row {
                // Half by seed, half by counter.
                seed: row.seed + i % 2 * i,
                counter: i,
                ..row.clone()
            })
            .collect();
        let drawn: Vec<u32> = rows
            .chunks(2000)
            .flat_map(|rows| tokens(&device, rows))
            .collect();
        let wide: Vec<f64> = row.logits.iter().map(|&logit| f64::from(logit)).collect();
        let want = distribution(
            &wide,
            &Stages {
                temperature: f64::from(temperature),
                top_k: None,
                top_p: top_p.map(f64::from),
                min_p: None,
            },
        );
        let mut counts = vec![0f64; VOCAB];
        for &token in &drawn {
            counts[token as usize] += 1.0;
        }
        // Tokens that are too rare for a normal count are taken together.
        let (mut square, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
        for (p, count) in want.iter().zip(&counts) {
            let expected = p * DRAWS as f64;
            if *p == 0.0 {
                assert_eq!(*count, 0.0, "a token outside of the nucleus was drawn");
            } else if expected < 10.0 {
                rare = (rare.0 + expected, rare.1 + count);
            } else {
                square += (count - expected).powi(2) / expected;
                cells += 1.0;
            }
        }
        if rare.0 > 0.0 {
            square += (rare.1 - rare.0).powi(2) / rare.0;
            cells += 1.0;
        }
        // Mean and variance of chi-square are its degrees of freedom and twice that; five deviations.
        let freedom: f64 = cells - 1.0;
        let far = (square - freedom) / (2.0 * freedom).sqrt();
        assert!(
            cells > 30.0 && far.abs() < 5.0,
            "{temperature}, {top_p:?}: {square} of {freedom}"
        );
    }
}

#[test]
fn a_row_draws_the_same_alone_and_in_any_batch() {
    let device = device();
    let settings = [
        Sampling::default(),
        Sampling {
            top_k: Some(20),
            repetition_penalty: 1.5,
            ..Sampling::default()
        },
        Sampling {
            top_p: Some(0.7),
            min_p: Some(0.05),
            ..Sampling::default()
        },
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
    ];
    let row = |i: u8| Row {
        logits: logits(i.into()),
        context: (0..u32::from(i) % 7).map(|at| at * 31).collect(),
        sampling: settings[usize::from(i) % settings.len()],
        seed: u64::from(i) / 3,
        counter: i.into(),
    };
    let rows: Vec<Row> = (0..24).map(row).collect();
    let together = tokens(&device, &rows);
    for (row, &token) in rows.iter().zip(&together) {
        assert_eq!(tokens(&device, std::slice::from_ref(row)), [token]);
    }
    let turned: Vec<Row> = rows.iter().rev().take(17).cloned().collect();
    let want: Vec<u32> = together.iter().rev().take(17).copied().collect();
    assert_eq!(tokens(&device, &turned), want);
    let distinct: std::collections::BTreeSet<_> = together.iter().collect();
    assert!(distinct.len() > 12, "{together:?}");
}

#[test]
fn a_row_without_a_token_says_why_and_spares_the_others() {
    let device = device();
    let row = |logits: Vec<f32>, temperature: f32| Row {
        logits,
        context: vec![3],
        sampling: Sampling {
            temperature,
            ..Sampling::default()
        },
        seed: 1,
        counter: 2,
    };
    for temperature in [0.0, 1.0] {
        let mut damaged = logits(1);
        damaged[VOCAB - 1] = -f32::NAN;
        let good = row(logits(2), temperature);
        let rows = [
            row(damaged, temperature),
            good.clone(),
            row(vec![f32::NEG_INFINITY; VOCAB], temperature),
        ];
        let alone = tokens(&device, &[good])[0];
        assert_eq!(tokens(&device, &rows), [NAN_ROW, alone, NO_TOKEN]);
    }
}
