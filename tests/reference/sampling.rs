//! The reference of the sampler against hand-made cases.

use gpu_tlm::reference::sample;

use super::{ROUNDING, assert_close};

#[test]
fn top_k_keeps_exactly_k_and_the_lowest_ids_on_ties() {
    let logits = [1.0, 3.0, 3.0, 2.0, 3.0];
    let none = f64::NEG_INFINITY;
    assert_eq!(sample::top_k(&logits, 1), [none, 3.0, none, none, none]);
    assert_eq!(sample::top_k(&logits, 2), [none, 3.0, 3.0, none, none]);
    assert_eq!(sample::top_k(&logits, 4), [none, 3.0, 3.0, 2.0, 3.0]);
    assert_eq!(sample::top_k(&logits, 9), logits);
    assert_eq!(sample::top_k(&[-0.0, 0.0], 1), [0.0, none]);
}

#[test]
fn top_p_keeps_tokens_while_the_mass_before_them_is_below_p() {
    // Probabilities of a quarter, a half and a quarter.
    let (logits, temperature) = ([0.0, 1.0, 0.0], 1.0 / 2f64.ln());
    let none = f64::NEG_INFINITY;
    for (mass, want) in [
        (0.0, [none, 1.0, none]),
        (0.49, [none, 1.0, none]),
        (0.51, [0.0, 1.0, none]),
        (0.74, [0.0, 1.0, none]),
        (0.76, [0.0, 1.0, 0.0]),
        (1.0, [0.0, 1.0, 0.0]),
    ] {
        assert_eq!(
            sample::top_p(&logits, temperature, mass),
            want,
            "mass {mass}"
        );
    }
    assert_eq!(sample::top_p(&[3.0; 4], 1.0, 0.5), [3.0, 3.0, none, none]);
    let infinite = f64::INFINITY;
    let kept = sample::top_p(&[infinite, 1.0, infinite], 1.0, 0.9);
    assert_eq!(sample::weights(&kept, 1.0), [1.0, 0.0, 1.0]);
}

#[test]
fn distribution_applies_its_stages_in_order() {
    let logits = [1f64, 2.0, 4.0].map(f64::ln);
    for (temperature, top_k, top_p, min_p, want) in [
        (1.0, None, None, None, [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]),
        (0.5, None, None, None, [1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0]),
        (1.0, Some(2), None, None, [0.0, 1.0 / 3.0, 2.0 / 3.0]),
        (1.0, None, Some(0.6), None, [0.0, 1.0 / 3.0, 2.0 / 3.0]),
        // Top-k first leaves 2/3 on id 2, which is 0.6 already; top-p first would keep id 1.
        (1.0, Some(2), Some(0.6), None, [0.0, 0.0, 1.0]),
        (1.0, None, None, Some(0.26), [0.0, 1.0 / 3.0, 2.0 / 3.0]),
        // The temperature comes first: the smallest has a sixteenth of the largest's mass.
        (0.5, None, None, Some(0.07), [0.0, 0.2, 0.8]),
        (0.0, None, None, None, [0.0, 0.0, 1.0]),
    ] {
        let stages = sample::Stages {
            temperature,
            top_k,
            top_p,
            min_p,
        };
        let got = sample::distribution(&logits, &stages);
        assert_close(&format!("{stages:?}"), &got, &want, ROUNDING);
    }
}

#[test]
fn penalise_moves_each_token_of_the_context_down_once() {
    let logits = [2.0, -2.0, 0.0, 3.0, f64::NEG_INFINITY];
    let penalised = sample::penalise(&logits, &[0, 1, 2, 1, 4], 4.0);
    assert_eq!(penalised, [0.5, -8.0, 0.0, 3.0, f64::NEG_INFINITY]);
    // The result is an f32.
    assert_eq!(sample::penalise(&[1.0], &[0], 3.0), [f64::from(1f32 / 3.0)]);
}

#[test]
fn draw_and_greedy_pick_the_first_id_that_qualifies() {
    let probabilities = [0.0, 0.25, 0.0, 0.75];
    for (uniform, want) in [(0.0, 1), (0.2499, 1), (0.25, 3), (0.9999, 3), (1.0, 3)] {
        let got = sample::draw(&probabilities, uniform);
        assert_eq!(got, want, "uniform {uniform}");
    }
    assert_eq!(sample::draw(&[1.0, 1.0, 2.0, 0.0], 0.49), 1, "total 4");
    assert_eq!(sample::draw(&[1.0, 0.0], 1.0), 0, "never an impossible id");
    assert_eq!(sample::greedy(&[1.0, 3.0, 2.0, 3.0]), 1);
    assert_eq!(sample::greedy(&[-0.0, 0.0]), 0);
}
