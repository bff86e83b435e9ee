//! The text of a request depends on the request alone: not on company, page pressure, chunks or order of arrival.
//! The device is the simulated one, whose text changes if a single page is mixed up.

use proptest::prelude::*;
use trefoil_runtime::engine::Failure;
use trefoil_runtime::engine::{Event, FinishReason};
use trefoil_runtime::executor::{Capacity, RowError};
use trefoil_runtime::request::{Draft, Sampling, Stopping};

use crate::bench::*;

#[derive(Debug, Clone)]
struct Pressure {
    capacity: Capacity,
    drafts: Vec<Draft>,
    /// Requests that are submitted while others run: how many events are read in between.
    pauses: Vec<usize>,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let prompt = prop::collection::vec(0..VOCAB as u32, 1..30);
    let sampling = (0..3u8, any::<u64>(), 0..2u8).prop_map(|(kind, seed, penalty)| Sampling {
        temperature: [0.0, 0.7, 1.0][usize::from(kind)],
        top_p: [1.0, 0.9, 1.0][usize::from(kind)],
        top_k: [0, 0, 5][usize::from(kind)],
        presence_penalty: f32::from(penalty),
        repetition_penalty: 1.0 + f32::from(penalty) / 2.0,
        seed,
        ..Sampling::default()
    });
    let stopping = (1..40usize, 0..40usize, any::<bool>()).prop_map(|(max, min, ignore_eos)| {
        let (max_tokens, min_tokens) = (Some(max), min.min(max));
        // A quarter of the vocabulary ends a text, so ends come at every point of the pipeline.
        let eos = (0..VOCAB as u32).filter(|token| token % 4 == 0).collect();
        Stopping { max_tokens, min_tokens, eos, stop_tokens: vec![1, 2], ignore_eos }
    });
    (prompt, sampling, stopping).prop_map(|(prompt, sampling, stopping)| Draft {
        prompt,
        sampling,
        stopping,
        num_logprobs: Some(2),
    })
}

/// Pools that hold little more than one sequence, and budgets that cut every prompt.
fn pressures() -> impl Strategy<Value = Pressure> {
    let sizes = (1..6usize, 1..16usize, 1..12usize, 0..6usize);
    let drafts = prop::collection::vec(drafts(), 1..16);
    let pauses = prop::collection::vec(0..8usize, 16);
    (sizes, drafts, pauses).prop_map(|(sizes, drafts, pauses)| {
        let (page_tokens, max_num_batched_tokens, max_num_seqs, spare_pages) = sizes;
        let num_pages = 70usize.div_ceil(page_tokens) + spare_pages;
        let capacity = Capacity { page_tokens, max_num_batched_tokens, max_num_seqs, num_pages, ..roomy() };
        Pressure { capacity, drafts, pauses }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pressure_does_not_change_a_text(pressure in pressures()) {
        let engine = start(pressure.capacity, Behavior::default());
        let mut streams = Vec::new();
        for (draft, pause) in pressure.drafts.iter().zip(&pressure.pauses) {
            let mut stream = engine.submit(request(draft.clone())).unwrap();
            let early: Vec<Event> = (0..*pause).map_while(|_| stream.blocking_next()).collect();
            streams.push((early, stream));
        }
        for (draft, (mut events, stream)) in pressure.drafts.iter().zip(streams) {
            events.extend(rest(stream));
            prop_assert_eq!(&events, &alone(draft));
        }
        assert_idle(&engine);
    }
}

#[test]
fn many_sequences_in_a_pool_of_a_quarter_of_their_need() {
    let capacity = Capacity { page_tokens: 4, num_pages: 60, max_num_batched_tokens: 32, max_num_seqs: 16, ..roomy() };
    let engine = start(capacity, Behavior::default());
    let drafts: Vec<Draft> = (0..200).map(|seed| sampled_draft(seed, 40)).collect();
    let streams: Vec<_> = drafts.iter().map(|draft| engine.submit(request(draft.clone())).unwrap()).collect();
    for (draft, stream) in drafts.iter().zip(streams) {
        assert_eq!(rest(stream), alone(draft));
    }
    let stats = assert_idle(&engine);
    assert!(stats.num_preemptions > 0, "no pressure, no test");
    assert!(stats.num_preemptions < 8 * 200, "{} preemptions", stats.num_preemptions);
    assert_eq!(stats.num_generation_tokens, 200 * 40);
    assert_eq!(stats.num_prompt_tokens, drafts.iter().map(|d| d.prompt.len() as u64).sum::<u64>());
    assert_eq!(stats.finished.length, 200);
}

#[test]
fn equal_requests_have_equal_texts() {
    let engine = start(roomy(), Behavior::default());
    let streams: Vec<_> = (0..50).map(|_| engine.submit(request(sampled_draft(7, 30))).unwrap()).collect();
    let mut texts: Vec<_> = streams.into_iter().map(rest).collect();
    texts.dedup();
    assert_eq!(texts.len(), 1);
    let other = rest(engine.submit(request(sampled_draft(8, 30))).unwrap());
    assert_ne!(texts, [other], "the seed matters");
}

#[test]
fn another_model_has_another_text() {
    let engine = start(roomy(), Behavior { key: 1, ..Behavior::default() });
    let draft = sampled_draft(7, 30);
    assert_ne!(rest(engine.submit(request(draft.clone())).unwrap()), alone(&draft));
}

/// The last event, and the number of tokens before it.
fn ending(stopping: Stopping) -> (Event, usize) {
    let engine = start(roomy(), Behavior::default());
    let draft = Draft { stopping, ..sampled_draft(3, 1) };
    let mut events = rest(engine.submit(request(draft)).unwrap());
    let last = events.pop().unwrap();
    assert_idle(&engine);
    (last, events.len())
}

fn all_tokens() -> Vec<u32> {
    (0..VOCAB as u32).collect()
}

#[test]
fn max_tokens_ends_by_length() {
    for max_tokens in [1, 2, 3, 17] {
        let (last, num_tokens) = ending(Stopping { max_tokens: Some(max_tokens), ..Stopping::default() });
        let reason = FinishReason::Length;
        assert_eq!(last, Event::Finished { reason, num_generated_tokens: max_tokens });
        assert_eq!(num_tokens, max_tokens);
    }
}

#[test]
fn an_end_token_is_not_text_and_counts() {
    let stopping = Stopping { max_tokens: Some(9), eos: all_tokens(), ..Stopping::default() };
    let (last, num_tokens) = ending(stopping);
    assert!(
        matches!(last, Event::Finished { reason: FinishReason::EndOfSequence(_), num_generated_tokens: 1 }),
        "{last:?}"
    );
    assert_eq!(num_tokens, 0);
}

#[test]
fn stop_tokens_end_even_when_eos_is_ignored() {
    let stopping = Stopping { max_tokens: Some(9), eos: all_tokens(), ignore_eos: true, ..Stopping::default() };
    assert_eq!(ending(stopping.clone()).1, 9);
    let (last, _) = ending(Stopping { stop_tokens: all_tokens(), ..stopping });
    assert!(matches!(last, Event::Finished { reason: FinishReason::StopToken(_), .. }), "{last:?}");
}

#[test]
fn min_tokens_hold_the_end_back() {
    // Half the vocabulary ends the text; the other half is left to sample until then.
    let eos = (0..VOCAB as u32 / 2).collect();
    let stopping = Stopping { max_tokens: Some(100), min_tokens: 20, eos, ..Stopping::default() };
    let (last, num_tokens) = ending(stopping);
    assert!(matches!(last, Event::Finished { reason: FinishReason::EndOfSequence(_), .. }));
    assert!((20..40).contains(&num_tokens), "{num_tokens}");
}

#[test]
fn a_row_that_is_not_finite_fails_its_request_alone() {
    let poison = 5;
    let engine = start(roomy(), Behavior { poison: Some(poison), ..Behavior::default() });
    let sick = Draft { prompt: vec![poison], ..sampled_draft(1, 20) };
    let healthy: Vec<Draft> = (10..14)
        .map(|seed| {
            let mut draft = sampled_draft(seed, 20);
            draft.prompt.retain(|token| *token != poison);
            draft.sampling.logit_bias = vec![(poison, -100.0)];
            draft
        })
        .collect();
    let sick = engine.submit(request(sick)).unwrap();
    let streams: Vec<_> = healthy.iter().map(|draft| engine.submit(request(draft.clone())).unwrap()).collect();
    assert_eq!(rest(sick), [Event::Failed(Failure::Row(RowError::NotFinite))]);
    for (draft, stream) in healthy.iter().zip(streams) {
        assert_eq!(rest(stream), alone(draft));
    }
    assert_eq!(assert_idle(&engine).finished.error, 1);
}
