//! Decoding with a cache: the same as passes over whole windows, and as each sequence alone.

use gpu_tlm::config::{Architecture, ModelConfig, Precision};
use gpu_tlm::decode::{
    Event, Finish, Generator, HeadAt, InferenceModel, Overflow, Request, SequenceId,
};
use gpu_tlm::gpu::{AdapterClass, Device, DeviceOptions};
use gpu_tlm::kernels::sample::Sampling;

const CONTEXT: usize = 48;

fn model(change: impl Fn(&mut ModelConfig)) -> ModelConfig {
    let mut config = ModelConfig {
        vocab_size: 97,
        context_length: CONTEXT,
        d_model: 32,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 4,
        d_ff: 88,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: false,
        precision: Precision::F32,
        architecture: Architecture::default(),
    };
    change(&mut config);
    config
}

/// Models of every kind: heads of their own, grouped, tied, and of widths that are no whole quads.
fn models(precision: Precision) -> Vec<(&'static str, ModelConfig)> {
    let of = |name, change: fn(&mut ModelConfig)| {
        let config = model(|config| {
            change(config);
            config.precision = precision;
        });
        (name, config)
    };
    vec![
        of("multi-head", |_| {}),
        of("grouped", |config| config.num_kv_heads = 2),
        of("tied", |config| {
            config.tie_embeddings = true;
            config.num_kv_heads = 1;
        }),
        of("no whole quads", |config| {
            config.d_model = 30;
            config.num_heads = 3;
            config.num_kv_heads = 3;
            config.d_ff = 61;
            config.vocab_size = 91;
        }),
    ]
}

fn device() -> Device {
    Device::open(&DeviceOptions::default()).unwrap()
}

fn generator(config: &ModelConfig, slots: usize) -> Generator {
    generator_on(device(), config, slots)
}

fn generator_on(device: Device, config: &ModelConfig, slots: usize) -> Generator {
    let words = device.target().max_binding_words;
    let model = InferenceModel::initial(config, 5, words);
    Generator::new(device, model, slots).unwrap()
}

fn tokens(n: usize, vocab_size: usize) -> Vec<u32> {
    let token = |i: usize| u32::try_from((i * 37 + 11) % vocab_size).unwrap();
    (0..n).map(token).collect()
}

/// Positions at which logits of a cache and of a whole pass differ by more than `tolerance` of the largest.
fn differences(
    config: &ModelConfig,
    generator: &mut Generator,
    tolerance: f32,
) -> Vec<(usize, f32)> {
    let window = tokens(CONTEXT, config.vocab_size);
    let cached = generator.cached_logits(&window, 3).unwrap();
    assert_eq!(cached.len(), CONTEXT - 2);
    let mut found = Vec::new();
    for (got, end) in cached.iter().zip(3..) {
        let want = generator.logits(&window[..end]).unwrap();
        let largest = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0f32, |most, x| if x <= most { most } else { x });
        let is_near = off <= tolerance * largest;
        if !is_near {
            found.push((end, off / largest));
        }
    }
    found
}

#[test]
fn cached_logits_are_those_of_a_whole_pass_at_every_position() {
    for (name, config) in models(Precision::F32) {
        let mut generator = generator(&config, 3);
        let found = differences(&config, &mut generator, 1e-5);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

/// Where sums in another order round to another half, the difference is of that size, 2^-11, and layers
/// multiply it a little.
#[test]
fn cached_logits_of_mixed_precision_are_those_of_a_whole_pass_but_for_rounding() {
    for (name, config) in models(Precision::Mixed) {
        let mut generator = generator(&config, 3);
        let found = differences(&config, &mut generator, 4e-3);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

/// The kernels of GPUs, on whatever adapter there is.
#[test]
fn cached_logits_by_buffers_are_those_of_a_whole_pass() {
    for precision in [Precision::F32, Precision::Mixed] {
        for (name, config) in models(precision) {
            let mut generator = generator_on(device().with_class(AdapterClass::Gpu), &config, 3);
            let tolerance = if precision == Precision::F32 {
                1e-5
            } else {
                4e-3
            };
            let found = differences(&config, &mut generator, tolerance);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
}

fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        ..Sampling::default()
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let by_value = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
    // Of equal ones the first.
    let best = logits.iter().enumerate().rev().max_by(by_value);
    u32::try_from(best.unwrap().0).unwrap()
}

/// 200 greedy tokens by passes over whole windows.
fn uncached(generator: &mut Generator, prompt: &[u32]) -> Vec<u32> {
    let mut text = prompt.to_vec();
    for _ in 0..200 {
        let window = &text[text.len().saturating_sub(CONTEXT)..];
        let logits = generator.logits(window).unwrap();
        text.push(likeliest(&logits));
    }
    text.split_off(prompt.len())
}

#[test]
fn two_hundred_greedy_tokens_are_those_of_whole_passes_across_the_windows_edge() {
    for precision in [Precision::F32, Precision::Mixed] {
        for (name, config) in models(precision) {
            let mut generator = generator(&config, 2);
            let prompt = tokens(5, config.vocab_size);
            let want = uncached(&mut generator, &prompt);
            let request = Request {
                prompt,
                max_new_tokens: 200,
                sampling: greedy(),
                ..Request::default()
            };
            let (got, finish) = generator.generate(request, |_| ()).unwrap();
            assert_eq!(
                (got, finish),
                (want, Finish::Length),
                "{name} {precision:?}"
            );
        }
    }
}

/// Keys and values of one layer depend on their own tokens alone, so that there it makes no difference
/// whether the window is computed anew.
#[test]
fn a_rolling_cache_of_one_layer_gives_what_whole_windows_give() {
    let config = model(|config| config.num_layers = 1);
    let mut generator = generator(&config, 1);
    for len in [7, CONTEXT, 2 * CONTEXT + 3] {
        let [exact, rolling] = [Overflow::Exact, Overflow::Rolling].map(|overflow| {
            let request = Request {
                prompt: tokens(len, config.vocab_size),
                max_new_tokens: 3 * CONTEXT,
                sampling: greedy(),
                overflow,
                ..Request::default()
            };
            generator.generate(request, |_| ()).unwrap()
        });
        assert_eq!(rolling, exact, "prompt of {len}");
    }
}

#[test]
fn a_full_context_stops_where_it_is_told_to() {
    let config = model(|_| ());
    let mut generator = generator(&config, 1);
    let mut of = |len: usize| {
        let request = Request {
            prompt: tokens(len, config.vocab_size),
            max_new_tokens: 100,
            overflow: Overflow::Stop,
            ..Request::default()
        };
        let (tokens, finish) = generator.generate(request, |_| ()).unwrap();
        (tokens.len(), finish)
    };
    // The last token may follow a full context.
    assert_eq!(of(CONTEXT - 4), (5, Finish::Context));
    assert_eq!(of(CONTEXT), (1, Finish::Context));
    assert_eq!(of(CONTEXT + 1), (0, Finish::Context));
}

/// Requests of every kind, which end at different times.
fn requests(vocab_size: usize) -> Vec<Request> {
    let of = |i: usize| Request {
        prompt: tokens(1 + 9 * i, vocab_size),
        max_new_tokens: 20 + 13 * i,
        sampling: Sampling {
            temperature: [0.0, 0.7, 1.0, 1.3][i % 4],
            top_p: i.is_multiple_of(2).then_some(0.9),
            repetition_penalty: if i == 3 { 1.3 } else { 1.0 },
            ..Sampling::default()
        },
        seed: i as u64 / 2,
        sample: u32::try_from(i).unwrap(),
        overflow: [Overflow::Exact, Overflow::Rolling][i % 2],
        logprobs: (i == 2).then_some(3),
        ..Request::default()
    };
    (0..6).map(of).collect()
}

/// Runs all of them, each as soon as a slot is free.
fn run(generator: &mut Generator, requests: &[Request]) -> Vec<Vec<Event>> {
    let mut waiting = requests.iter().enumerate();
    let mut ids: Vec<(SequenceId, usize)> = Vec::new();
    let mut events = vec![Vec::new(); requests.len()];
    loop {
        while generator.active() < generator.slots()
            && let Some((number, request)) = waiting.next()
        {
            ids.push((generator.add(request.clone()).unwrap(), number));
        }
        if generator.active() == 0 {
            return events;
        }
        for (id, event) in generator.step().unwrap() {
            let (_, number) = ids.iter().find(|(known, _)| *known == id).unwrap();
            events[*number].push(event);
        }
    }
}

/// Runs the requests one after the other, and then in batches of each size, forwards and backwards.
fn same_alone_and_together(device: &Device, name: &str, config: &ModelConfig, batches: &[usize]) {
    let requests = requests(config.vocab_size);
    let of = |slots| generator_on(device.clone(), config, slots);
    let alone = run(&mut of(1), &requests);
    for &slots in batches {
        let together = run(&mut of(slots), &requests);
        assert_eq!(together, alone, "{name}, {slots} slots");
        let backwards: Vec<Request> = requests.iter().rev().cloned().collect();
        let mut turned = run(&mut of(slots), &backwards);
        turned.reverse();
        assert_eq!(turned, alone, "{name}, {slots} slots, backwards");
    }
}

#[test]
fn a_sequence_is_the_same_alone_and_in_any_batch() {
    let grouped = model(|config| config.num_kv_heads = 2);
    let mixed = model(|config| config.precision = Precision::Mixed);
    let device = device();
    same_alone_and_together(&device, "f32", &grouped, &[2, 4, 6]);
    same_alone_and_together(&device, "mixed", &mixed, &[6]);
    let gpu = device.with_class(AdapterClass::Gpu);
    same_alone_and_together(&gpu, "f32 by a GPU's kernels", &grouped, &[6]);
    same_alone_and_together(&gpu, "mixed by a GPU's kernels", &mixed, &[3]);
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::MIN, |most, &x| most.max(x.into()));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    let of = |&x: &f32| f64::from(x) - largest - sum.ln();
    logits.iter().map(of).collect()
}

#[test]
fn log_probabilities_are_those_of_the_models_own_distribution() {
    let config = model(|_| ());
    let mut generator = generator(&config, 2);
    let prompt = tokens(9, config.vocab_size);
    let request = Request {
        prompt: prompt.clone(),
        max_new_tokens: 6,
        // They are of the logits, whatever filters what is drawn.
        sampling: Sampling {
            temperature: 0.5,
            top_k: Some(5),
            ..Sampling::default()
        },
        logprobs: Some(4),
        prompt_logprobs: true,
        ..Request::default()
    };
    let mut given = Vec::new();
    let (new, _) = generator
        .generate(request, |event| match event {
            Event::Prompt(all) => given.extend(all.clone()),
            Event::Token(token) => given.push(token.logprobs.clone().unwrap()),
            _ => {}
        })
        .unwrap();
    let text = [prompt, new].concat();
    assert_eq!(given.len(), text.len() - 1);
    for (end, got) in (1..).zip(&given) {
        let want = log_softmax(&generator.logits(&text[..end]).unwrap());
        let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 2e-5;
        assert!(
            near(got.logprob, want[text[end] as usize]),
            "{end}: {got:?}"
        );
        assert_eq!(got.top.len(), 4);
        let mut sorted = want.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for ((id, logprob), sorted) in got.top.iter().zip(sorted) {
            assert!(near(*logprob, sorted), "{end}: {got:?}");
            assert!(near(*logprob, want[*id as usize]), "{end}: {got:?}");
        }
    }
}

#[test]
fn a_heads_weights_are_those_of_what_each_token_sees() {
    let config = model(|config| config.num_kv_heads = 2);
    let mut generator = generator(&config, 1);
    let window = tokens(21, config.vocab_size);
    let at = |layer: usize, head: usize| HeadAt { layer, head };
    let weights = generator.attention(&window, at(1, 3)).unwrap();
    assert_eq!(weights.len(), 21 * 21);
    for (i, row) in weights.chunks(21).enumerate() {
        assert!(row[i + 1..].iter().all(|&weight| weight == 0.0), "{row:?}");
        let sum: f32 = row.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "row {i} adds up to {sum}");
    }
    // What follows cannot be seen.
    let shorter = generator.attention(&window[..9], at(1, 3)).unwrap();
    for (short, long) in shorter.chunks(9).zip(weights.chunks(21)) {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(short.iter().zip(long).all(near));
    }
    assert_ne!(weights, generator.attention(&window, at(1, 2)).unwrap());
    assert_ne!(weights, generator.attention(&window, at(0, 3)).unwrap());
    for wrong in [at(2, 0), at(0, 4)] {
        let error = generator.attention(&window, wrong).unwrap_err().to_string();
        assert!(error.contains("2 layers of 4 heads"), "{error}");
    }
}

#[test]
fn a_prompt_alone_is_scored_without_a_new_token() {
    let config = model(|_| ());
    let request = Request {
        prompt: tokens(CONTEXT, config.vocab_size),
        max_new_tokens: 0,
        logprobs: Some(0),
        prompt_logprobs: true,
        ..Request::default()
    };
    let mut generator = generator(&config, 1);
    let mut events = Vec::new();
    generator
        .generate(request.clone(), |e| events.push(e.clone()))
        .unwrap();
    let [Event::Prompt(scores), Event::Finished(Finish::Length)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(scores.len(), CONTEXT - 1);
    let long = Request {
        prompt: tokens(CONTEXT + 1, config.vocab_size),
        ..request
    };
    let error = generator.check(&long).unwrap_err().to_string();
    assert!(error.contains("context of 48"), "{error}");
}

#[test]
fn a_cancelled_sequence_frees_its_slot_and_leaves_the_others_alone() {
    let config = model(|_| ());
    let mut generator = generator(&config, 2);
    let requests = requests(config.vocab_size);
    let alone = run(&mut generator, &requests[1..2]);
    let first = generator.add(requests[0].clone()).unwrap();
    let second = generator.add(requests[1].clone()).unwrap();
    let mut events = Vec::new();
    let mut collect = |generator: &mut Generator| {
        let of_second = |(id, event)| (id == second).then_some(event);
        events.extend(generator.step().unwrap().into_iter().filter_map(of_second));
    };
    collect(&mut generator);
    generator.cancel(first);
    assert_eq!(generator.active(), 1);
    let third = generator.add(requests[4].clone()).unwrap();
    assert_ne!(third, first);
    while generator.active() > 0 {
        collect(&mut generator);
    }
    assert_eq!(vec![events], alone);
}
