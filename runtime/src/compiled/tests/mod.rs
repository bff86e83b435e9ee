//! The executor over a miniature model written by hand: against a plain reference, in any cut, by one stream or two.

mod miniature;
mod reference;

use std::sync::Mutex;

use super::*;
use crate::executor::{Input, PageIndex, Part, RowError, Slot};
use crate::request::{Sampling, Stopping, TokenId};
use crate::sampler::Sampler;
use crate::weights::{LoadOptions, load};
use miniature::{HIDDEN, MINIATURE, VOCAB, bound};
use reference::Tensors;

const PAGE: usize = 32;

fn options(plan: &str) -> ExecutorOptions {
    ExecutorOptions {
        max_num_batched_tokens: 160,
        max_num_seqs: 160,
        max_model_len: 128,
        kv_memory_bytes: Some(1 << 20),
        plan: PlanChoice::Named(plan.into()),
        num_threads: Some(2),
        ..ExecutorOptions::default()
    }
}

fn weights(tensors: &Tensors, tied: bool) -> Weights {
    let dir = tempfile::tempdir().unwrap();
    reference::save(tensors, dir.path());
    let options = LoadOptions { tied, num_threads: 2, ..LoadOptions::default() };
    load(dir.path(), &bound().weights, options).unwrap().weights
}

fn executor_with(tensors: &Tensors, options: &ExecutorOptions) -> CompiledExecutor {
    CompiledExecutor::new(&MINIATURE, bound(), weights(tensors, false), options, None).unwrap()
}

fn executor(plan: &str) -> CompiledExecutor {
    executor_with(&reference::tensors(), &options(plan))
}

/// A text of its own for each seed.
fn text(seed: u32, length: usize) -> Vec<TokenId> {
    (0..length as u32).map(|i| (seed * 31 + i * i * 7 + i * (seed + 3)) % VOCAB as u32).collect()
}

/// The sequence number `seq` owns three pages, not in ascending order.
fn pages(seq: u32) -> Vec<PageIndex> {
    [2, 0, 1].map(|page| PageIndex(seq * 3 + page)).to_vec()
}

fn part(seq: u32, tokens: &[TokenId], position: usize) -> Part {
    let input = Input::Known(tokens.to_vec());
    Part { slot: Slot(seq), input, position, pages: pages(seq), sample: None }
}

fn step(parts: Vec<Part>, num_decodes: usize) -> Step {
    Step { parts, num_decodes }
}

/// Logits of every row of a step.
fn all_logits(executor: &mut CompiledExecutor, step: Step) -> Vec<f32> {
    let rows: Vec<u32> = (0..step.num_tokens() as u32).collect();
    executor.logits(&step, &rows).unwrap()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

fn greedy() -> Arc<Mutex<Sampler>> {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Arc::new(Mutex::new(Sampler::new(&sampling, &Stopping::default(), &[1], None)))
}

fn largest(logits: &[f32]) -> TokenId {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as TokenId
}

#[test]
fn a_prompt_gives_the_logits_of_plain_arithmetic() {
    let (tensors, tokens) = (reference::tensors(), text(1, 70));
    let expected = reference::logits(&tensors, &tokens).concat();
    let found = all_logits(&mut executor("sequential"), step(vec![part(0, &tokens, 0)], 0));
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    let spread = expected.iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
    assert!(worst < 1e-5 * spread.max(1.0), "off by {worst} of {spread}");
}

#[test]
fn decode_chunks_and_mixtures_give_the_bits_of_one_prefill() {
    let (tokens, other) = (text(2, 70), text(3, 40));
    let mut executor = executor("sequential");
    let whole = bits(&all_logits(&mut executor, step(vec![part(0, &tokens, 0)], 0)));

    let mut decoded = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        decoded.extend(bits(&all_logits(&mut executor, step(vec![part(1, &[*token], position)], 1))));
    }
    assert!(whole == decoded, "decoding differs from prefill");

    let mut chunked = Vec::new();
    for chunk in [0..7, 7..33, 33..34, 34..70] {
        let at = chunk.start;
        chunked.extend(bits(&all_logits(&mut executor, step(vec![part(2, &tokens[chunk], at)], 0))));
    }
    assert!(whole == chunked, "chunked prefill differs from prefill");

    all_logits(&mut executor, step(vec![part(3, &tokens[..50], 0)], 0));
    let mixture = vec![part(3, &tokens[50..51], 50), part(5, &other[..1], 0), part(4, &tokens, 0), part(6, &other, 0)];
    let mixed = bits(&all_logits(&mut executor, step(mixture, 2)));
    assert!(mixed[..VOCAB] == whole[50 * VOCAB..51 * VOCAB], "a decode in company differs");
    assert!(mixed[2 * VOCAB..72 * VOCAB] == whole, "a prefill in company differs");
}

/// Three decodes and two chunks, of which the second is cut by every even split.
fn mixed_logits(executor: &mut CompiledExecutor) -> Vec<u32> {
    let texts: Vec<_> = (0..5).map(|seq| text(seq, 60 + seq as usize)).collect();
    let prompts = (0..3).map(|seq| part(seq, &texts[seq as usize][..40], 0)).collect();
    all_logits(executor, step(prompts, 0));
    let mut parts: Vec<_> = (0..3).map(|seq| part(seq, &texts[seq as usize][40..41], 40)).collect();
    parts.extend((3..5).map(|seq| part(seq, &texts[seq as usize], 0)));
    bits(&all_logits(executor, step(parts, 3)))
}

#[test]
fn every_plan_gives_the_same_bits() {
    let sequential = mixed_logits(&mut executor("sequential"));
    for (plan, num_threads) in [("halves", 2), ("aside", 2), ("halves", 5), ("sequential", 1)] {
        let options = ExecutorOptions { num_threads: Some(num_threads), ..options(plan) };
        let mut executor = executor_with(&reference::tensors(), &options);
        for _ in 0..8 {
            assert!(mixed_logits(&mut executor) == sequential, "{plan} on {num_threads} threads differs");
        }
    }
}

#[test]
fn changing_plans_between_steps_changes_nothing() {
    let sequential = mixed_logits(&mut executor("sequential"));
    let options = ExecutorOptions { plan: PlanChoice::Auto, ..options("") };
    let trace = Arc::new(Trace::new(100_000));
    let weights = weights(&reference::tensors(), false);
    let mut executor = CompiledExecutor::new(&MINIATURE, bound(), weights, &options, Some(trace.clone())).unwrap();
    assert!(mixed_logits(&mut executor) == sequential);
    let mut json = Vec::new();
    trace.write_json(&mut json).unwrap();
    let json = String::from_utf8(json).unwrap();
    // 120 rows without decodes, then three decodes among the rows.
    assert!(json.contains(r#""plan":"halves","step":1"#) && json.contains(r#""plan":"aside","step":2"#), "{json}");
    let names: Vec<_> = trace.summary().busy.into_iter().map(|(name, _)| name).collect();
    // The last is the twin of the first, for the plan that asks for two of them.
    assert_eq!(names, ["compute", "second", "memory", "compute"]);
}

/// Greedy tokens of two sequences, two steps always in flight.
fn generate(executor: &mut CompiledExecutor, num_steps: usize) -> Vec<Vec<TokenId>> {
    let prompts = [text(7, 20), text(8, 33)];
    let samplers = [greedy(), greedy()];
    let mut tokens = vec![Vec::new(), Vec::new()];
    let parts = |round: usize| {
        let part = |seq: usize| {
            let known = part(seq as u32, &prompts[seq], 0);
            let sample = Some(samplers[seq].clone());
            match round {
                0 => Part { sample, ..known },
                _ => Part { sample, input: Input::LastSampled, position: prompts[seq].len() + round - 1, ..known },
            }
        };
        step(vec![part(0), part(1)], if round == 0 { 0 } else { 2 })
    };
    executor.launch(parts(0)).unwrap();
    for round in 1..=num_steps {
        if round < num_steps {
            executor.launch(parts(round)).unwrap();
        }
        let sampled = executor.collect().unwrap().sampled;
        sampled.into_iter().zip(&mut tokens).for_each(|(sampled, tokens)| tokens.push(sampled.unwrap().token));
    }
    tokens
}

#[test]
fn two_steps_in_flight_generate_what_step_by_step_gives() {
    let mut expected = Vec::new();
    let mut offline = executor("sequential");
    for (seq, prompt) in [text(7, 20), text(8, 33)].into_iter().enumerate() {
        let (mut tokens, mut input, mut position) = (Vec::new(), prompt, 0);
        for _ in 0..30 {
            let logits = all_logits(&mut offline, step(vec![part(seq as u32, &input, position)], 0));
            position += input.len();
            tokens.push(largest(&logits[logits.len() - VOCAB..]));
            input = tokens[tokens.len() - 1..].to_vec();
        }
        expected.push(tokens);
    }
    for plan in ["sequential", "halves", "aside"] {
        assert_eq!(generate(&mut executor(plan), 30), expected, "{plan}");
    }
}

#[test]
fn a_row_that_is_not_finite_fails_alone() {
    let mut tensors = reference::tensors();
    let head = tensors["embed"].clone();
    tensors.insert("head".into(), head);
    if let Some((_, numbers)) = tensors.get_mut("embed") {
        numbers[40 * HIDDEN] = f32::NAN;
    }
    let mut executor = executor_with(&tensors, &options("sequential"));
    let sampled = |seq, tokens: &[TokenId]| Part { sample: Some(greedy()), ..part(seq, tokens, 0) };
    executor.launch(step(vec![sampled(0, &[3, 5]), sampled(1, &[3, 40]), sampled(2, &[3, 5])], 0)).unwrap();
    let sampled = executor.collect().unwrap().sampled;
    assert_eq!(sampled[1], Err(RowError::NotFinite));
    assert!(sampled[0].is_ok() && sampled[0] == sampled[2]);
}

#[test]
fn a_panic_in_a_launch_is_a_device_fault_that_names_it() {
    let mut executor = executor("faulty");
    executor.launch(step(vec![Part { sample: Some(greedy()), ..part(0, &[1, 2], 0) }], 0)).unwrap();
    let fault = executor.collect().unwrap_err();
    assert_eq!(fault.site, "layer 1: past#1 (stream 3)");
    assert!(fault.what.contains("leaves"), "{fault}");
    assert_eq!(executor.launch(step(vec![part(0, &[1], 0)], 0)), Err(fault));
}

#[test]
fn steps_that_break_the_rules_are_refused() {
    let options = ExecutorOptions { max_num_batched_tokens: 40, max_num_seqs: 4, ..options("sequential") };
    let mut executor = executor_with(&reference::tensors(), &options);
    let good = || part(0, &[1, 2], 0);
    let cases = [
        (step(vec![good()], 1), "part 0: 2 tokens in a decode"),
        (step(vec![part(0, &[], 0)], 0), "part 0: 0 tokens in a chunk"),
        (step(vec![good(), part(0, &[48], 0)], 0), "part 1: token 48 of a vocabulary of 48"),
        (step(vec![part(0, &[1], 128)], 0), "part 0: 129 tokens, the longest sequence has 128"),
        (step(vec![part(0, &[1], 96)], 0), "part 0: 3 pages of 32 for 97 tokens"),
        (step(vec![part(9, &[1], 0)], 0), "part 0: page 29 of 16"),
        (step(vec![Part { slot: Slot(4), ..good() }], 0), "part 0: slot 4 of 4"),
        (step(vec![part(0, &[1; 41], 0)], 0), "41 rows, at most 40 are allowed"),
        (step(vec![part(0, &[1], 0)], 2), "2 decodes among 1 parts"),
    ];
    for (step, expected) in cases {
        assert_eq!(executor.launch(step).unwrap_err().what, expected);
    }
    assert!(executor.logits(&step(vec![good()], 0), &[2]).unwrap_err().what.contains("row 2 of 2"));
    assert!(executor.logits(&step(vec![good()], 0), &[0; 5]).unwrap_err().what.contains("at most 4"));
    executor.launch(step(vec![good()], 0)).unwrap();
    executor.launch(step(vec![good()], 0)).unwrap();
    assert!(executor.launch(step(vec![good()], 0)).unwrap_err().what.contains("in flight"));
    assert!(executor.collect().unwrap().sampled.is_empty());
    assert!(executor.collect().unwrap().sampled.is_empty());
    assert!(executor.collect().is_err());
}

#[test]
fn kv_memory_is_divided_into_pages_and_never_exceeds_the_need() {
    let page_bytes = 2 * 2 * (2 * miniature::HEAD.next_multiple_of(32) - 16) * PAGE * 4;
    let ledger = |options: &ExecutorOptions| executor_with(&reference::tensors(), options).ledger();
    let small = ExecutorOptions { kv_memory_bytes: Some(5 * page_bytes + 7), ..options("sequential") };
    let found = ledger(&small);
    assert_eq!((found.num_pages, found.page_bytes, found.kv_bytes), (5, page_bytes, 5 * page_bytes));
    assert_eq!(found.kv_tokens, 5 * PAGE);
    let needed = ExecutorOptions { max_num_seqs: 3, kv_memory_bytes: None, ..options("sequential") };
    assert_eq!(ledger(&needed).num_pages, 3 * 128 / PAGE);
    let half = ExecutorOptions { kv_dtype: KvDtype::Bfloat16, ..needed };
    assert_eq!(ledger(&half).page_bytes, page_bytes / 2);
}

fn refusal(options: &ExecutorOptions) -> ExecutorError {
    let weights = weights(&reference::tensors(), true);
    CompiledExecutor::new(&MINIATURE, bound(), weights, options, None).err().unwrap()
}

#[test]
fn options_that_nothing_could_run_under_are_refused() {
    let none = ExecutorOptions { kv_memory_bytes: Some(100), ..options("sequential") };
    assert!(matches!(refusal(&none), ExecutorError::NoRoomForPages { available_bytes: 100, page_tokens: 32, .. }));
    let pages = ExecutorOptions { page_tokens: 16, ..options("sequential") };
    assert_eq!(refusal(&pages).to_string(), "page_tokens is 16, it must be a multiple of 32");
    let zero = ExecutorOptions { max_num_seqs: 0, ..options("sequential") };
    assert_eq!(refusal(&zero).to_string(), "max_num_seqs is 0, it must be between 1 and 2147483647");
    let plan = refusal(&options("halfs")).to_string();
    assert!(plan.starts_with("there is no plan `halfs` (did you mean `halves`?)"), "{plan}");
    assert!(!plan.contains("elsewhere"), "{plan}");
    let device = refusal(&options("elsewhere")).to_string();
    assert_eq!(device, "plan `elsewhere` is made for h200-141g, and this device is a cpu");
}

#[test]
fn a_model_for_several_ranks_is_refused() {
    let divided = CompiledModel {
        name: "miniature_tp2",
        ranks: 2,
        serves: &[],
        config_keys: &[],
        bind: MINIATURE.bind,
        plans: MINIATURE.plans,
    };
    let weights = weights(&reference::tensors(), true);
    let error = CompiledExecutor::new(&divided, bound(), weights, &options("sequential"), None).err().unwrap();
    let text = "`miniature_tp2` is divided among 2 ranks, and this device is one rank: take the model without ranks";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_tied_head_shares_the_embedding() {
    let tied = weights(&reference::tensors(), true).num_bytes();
    let mut untied = reference::tensors();
    let head = untied["embed"].clone();
    untied.insert("head".into(), head);
    // Panels of 32 rows.
    assert_eq!(weights(&untied, false).num_bytes() - tied, 64 * HIDDEN * 4);
    assert_eq!(weights(&untied, true).num_bytes(), tied);
}
