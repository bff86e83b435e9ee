//! The sampler against a plain reference, against the distributions it promises, and rule by rule.

use std::sync::Mutex;

use proptest::prelude::*;

use super::exp::exp;
use super::{Sampled, Sampler, philox, sample_row};
use crate::executor::RowError;
use crate::request::{Sampling, Stopping, TokenId};

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

fn sampler(settings: &Sampling) -> Sampler {
    Sampler::new(settings, &Stopping::default(), &[], None)
}

fn choose(sampler: &mut Sampler, logits: &[f32]) -> TokenId {
    sampler.sample(&mut logits.to_vec()).expect("the logits are sound").token
}

/// The definition, with full sorts and no shortcuts.
fn reference(logits: &[f32], settings: &Sampling, draw: f64) -> TokenId {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weigh = |logit: f32| exp((logit - most) / settings.temperature);
    let mut kept: Vec<(TokenId, f32)> = (0..).zip(logits.iter().map(|l| weigh(*l))).collect();
    kept.retain(|(_, weight)| *weight >= settings.min_p && *weight > 0.0);
    if settings.top_k > 0 || settings.top_p < 1.0 {
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    if settings.top_k > 0 {
        kept.truncate(settings.top_k);
    }
    if settings.top_p < 1.0 {
        let goal = mass(&kept) * f64::from(settings.top_p);
        let num_kept = (1..=kept.len()).find(|n| mass(&kept[..*n]) >= goal).unwrap_or(kept.len());
        kept.truncate(num_kept);
    }
    let goal = mass(&kept) * draw;
    let chosen = (1..=kept.len()).find(|n| mass(&kept[..*n]) > goal).unwrap_or(kept.len());
    kept[chosen - 1].0
}

fn mass(kept: &[(TokenId, f32)]) -> f64 {
    kept.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

fn settings() -> impl Strategy<Value = Sampling> {
    let top_p = prop_oneof![Just(1.0f32), 0.01f32..1.0];
    let min_p = prop_oneof![Just(0.0f32), 0.0f32..0.5];
    (0.05f32..4.0, 0..300usize, top_p, min_p, any::<u64>()).prop_map(|(temperature, top_k, top_p, min_p, seed)| {
        // Most values of `top_k` would filter nothing; a third of the cases switch it off.
        let top_k = if top_k % 3 == 0 { 0 } else { top_k };
        Sampling { temperature, top_k, top_p, min_p, seed, ..Sampling::default() }
    })
}

proptest! {
    #[test]
    fn agrees_with_the_reference(
        logits in prop::collection::vec(-12.0f32..12.0, 1..400),
        settings in settings(),
    ) {
        let mut sampler = sampler(&settings);
        for index in 0..4 {
            let draw = philox::uniform(settings.seed, index);
            prop_assert_eq!(choose(&mut sampler, &logits), reference(&logits, &settings, draw));
        }
    }

    /// Flat logits, where the nucleus is wide and every order is decided by ids.
    #[test]
    fn agrees_with_the_reference_on_ties(len in 1..2000usize, settings in settings()) {
        let logits: Vec<f32> = (0..len).map(|token| (token % 3) as f32).collect();
        let draw = philox::uniform(settings.seed, 0);
        let token = choose(&mut sampler(&settings), &logits);
        prop_assert_eq!(token, reference(&logits, &settings, draw));
    }

    #[test]
    fn greedy_takes_the_first_largest(logits in prop::collection::vec(-3i8..3, 1..100)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let token = choose(&mut sampler(&greedy()), &logits) as usize;
        prop_assert!(logits[..token].iter().all(|logit| *logit < logits[token]));
        prop_assert!(logits[token..].iter().all(|logit| *logit <= logits[token]));
    }

    #[test]
    fn extreme_settings_never_fail(
        logits in prop::collection::vec(-3e38f32..3e38, 1..50),
        temperature in prop_oneof![Just(1e-40f32), Just(1e38f32), Just(1.0f32)],
        repetition_penalty in prop_oneof![Just(1e-40f32), Just(1e38f32)],
    ) {
        let settings = Sampling { temperature, repetition_penalty, top_p: 0.5, ..Sampling::default() };
        let mut sampler = Sampler::new(&settings, &Stopping::default(), &[0, 1, 2], Some(3));
        for _ in 0..3 {
            let sampled = sampler.sample(&mut logits.clone());
            prop_assert!(sampled.is_ok_and(|s| (s.token as usize) < logits.len()));
        }
    }
}

/// Pearson's statistic of `num_draws` against the given probabilities.
fn chi_square(settings: &Sampling, logits: &[f32], expected: &[f64]) -> f64 {
    let num_draws = 40_000;
    let mut counts = vec![0u32; expected.len()];
    let mut sampler = sampler(settings);
    for _ in 0..num_draws {
        counts[choose(&mut sampler, logits) as usize] += 1;
    }
    let terms = expected.iter().zip(counts).map(|(share, count)| {
        let mean = share * f64::from(num_draws);
        if mean == 0.0 {
            assert_eq!(count, 0, "a token that the filter removes was drawn");
            return 0.0;
        }
        (f64::from(count) - mean).powi(2) / mean
    });
    terms.sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

const LOGITS: [f32; 6] = [0.5, 2.0, -1.0, 1.0, 0.0, 1.5];

/// The 99.9th percentile of chi-square with five degrees of freedom is 20.5.
#[test]
fn temperature_gives_its_distribution() {
    for temperature in [0.5f32, 1.0, 2.0] {
        let settings = Sampling { temperature, seed: 11, ..Sampling::default() };
        let statistic = chi_square(&settings, &LOGITS, &softmax(&LOGITS, temperature.into()));
        assert!(statistic < 20.5, "temperature {temperature}: {statistic}");
        let wrong = chi_square(&settings, &LOGITS, &softmax(&LOGITS, f64::from(temperature) * 1.1));
        assert!(wrong > 20.5, "the test does not see a wrong temperature: {wrong}");
    }
}

/// Probabilities at temperature 1 are about .41 .25 .15 .09 .06 .02, so the nucleus of 0.7 is the first three.
/// The 99.9th percentile of chi-square with two degrees of freedom is 13.8.
#[test]
fn top_p_gives_its_distribution() {
    let settings = Sampling { top_p: 0.7, seed: 12, ..Sampling::default() };
    let mut expected = softmax(&LOGITS, 1.0);
    for token in [0, 2, 4] {
        expected[token] = 0.0;
    }
    let sum: f64 = expected.iter().sum();
    expected.iter_mut().for_each(|share| *share /= sum);
    let statistic = chi_square(&settings, &LOGITS, &expected);
    assert!(statistic < 13.8, "{statistic}");
}

#[test]
fn logprobs_are_the_models_own() {
    let settings =
        Sampling { temperature: 0.0, logit_bias: vec![(2, 100.0)], presence_penalty: 2.0, ..Sampling::default() };
    let mut sampler = Sampler::new(&settings, &Stopping::default(), &[], Some(3));
    let sampled = sampler.sample(&mut LOGITS.to_vec()).unwrap();
    let expected = softmax(&LOGITS, 1.0);
    assert_eq!(sampled.token, 2);
    assert_eq!(sampled.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 5, 3]);
    for (token, logprob) in sampled.top.iter().copied().chain([(2, sampled.logprob.unwrap())]) {
        assert!((f64::from(logprob) - expected[token as usize].ln()).abs() < 1e-6);
    }
}

#[test]
fn nothing_is_reported_unless_asked() {
    let sampled = sampler(&greedy()).sample(&mut LOGITS.to_vec()).unwrap();
    assert_eq!(sampled, Sampled { token: 1, logprob: None, top: Vec::new() });
    let mut sampler = Sampler::new(&greedy(), &Stopping::default(), &[], Some(0));
    let sampled = sampler.sample(&mut LOGITS.to_vec()).unwrap();
    assert!(sampled.logprob.is_some() && sampled.top.is_empty());
}

#[test]
fn ending_tokens_are_banned_until_min_tokens() {
    let stopping = Stopping { min_tokens: 2, eos: vec![1, 99], stop_tokens: vec![5], ..Stopping::default() };
    let mut sampler = Sampler::new(&greedy(), &stopping, &[], None);
    let chosen: Vec<_> = (0..3).map(|_| choose(&mut sampler, &LOGITS)).collect();
    assert_eq!(chosen, [3, 3, 1]);
    let ignoring = Stopping { ignore_eos: true, ..stopping };
    let mut sampler = Sampler::new(&greedy(), &ignoring, &[], None);
    assert_eq!(choose(&mut sampler, &LOGITS), 1, "an end that is ignored needs no ban");
}

#[test]
fn a_ban_of_everything_is_an_error() {
    let stopping = Stopping { min_tokens: 1, eos: vec![0, 1], ..Stopping::default() };
    let mut sampler = Sampler::new(&greedy(), &stopping, &[], None);
    assert_eq!(sampler.sample(&mut [1.0, 2.0]), Err(RowError::EverythingBanned));
}

#[test]
fn presence_and_frequency_count_the_output_only() {
    let presence = Sampling { presence_penalty: 0.6, ..greedy() };
    let mut sampler = Sampler::new(&presence, &Stopping::default(), &[1, 1, 1], None);
    let chosen: Vec<_> = (0..4).map(|_| choose(&mut sampler, &LOGITS)).collect();
    assert_eq!(chosen, [1, 5, 1, 1], "2.0 and 1.5 become 1.4 and 0.9, once");
    let frequency = Sampling { frequency_penalty: 0.6, ..greedy() };
    let mut sampler = Sampler::new(&frequency, &Stopping::default(), &[1, 1, 1], None);
    let chosen: Vec<_> = (0..5).map(|_| choose(&mut sampler, &LOGITS)).collect();
    assert_eq!(chosen, [1, 5, 1, 3, 5], "each occurrence costs another 0.6");
}

#[test]
fn repetition_counts_the_prompt_too() {
    let settings = Sampling { repetition_penalty: 4.0, ..greedy() };
    let mut sampler = Sampler::new(&settings, &Stopping::default(), &[1, 5], None);
    let chosen: Vec<_> = (0..3).map(|_| choose(&mut sampler, &LOGITS)).collect();
    assert_eq!(chosen, [3, 0, 1], "2, 1.5, 1 and .5 are divided by 4 once each");
    let mut sampler = Sampler::new(&settings, &Stopping::default(), &[0], None);
    assert_eq!(choose(&mut sampler, &[-1.0, -3.0]), 1, "negative logits are multiplied");
}

#[test]
fn a_logit_that_is_not_finite_is_an_error_and_counts_nothing() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut sampler = sampler(&Sampling::default());
        let mut logits = vec![0.0; 3000];
        logits[2999] = bad;
        assert_eq!(sampler.sample(&mut logits), Err(RowError::NotFinite));
        assert_eq!(sampler.num_sampled(), 0);
    }
}

#[test]
fn a_poisoned_sampler_fails_alone() {
    let shared = Mutex::new(sampler(&greedy()));
    let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = shared.lock();
        panic!("planted");
    }));
    assert!(poisoned.is_err());
    assert_eq!(sample_row(&shared, &mut [0.0, 1.0]).map(|sampled| sampled.token), Ok(1));
}
