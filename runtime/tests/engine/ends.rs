//! Requests that do not run to their end: cancelled, or on a device that fails.

use std::time::Duration;

use proptest::prelude::*;
use trefoil_runtime::device::simulated::Fault;
use trefoil_runtime::engine::{Event, Failure, Phase, SubmitError};
use trefoil_runtime::executor::Capacity;

use crate::bench::*;

fn tight() -> Capacity {
    Capacity { page_tokens: 2, num_pages: 40, max_num_batched_tokens: 8, max_num_seqs: 4, ..roomy() }
}

proptest! {
    /// Streams are dropped after any number of events; the others must not notice, and nothing may leak.
    #[test]
    fn cancellation_leaks_nothing_and_changes_nobody(
        plans in prop::collection::vec((0..50u64, 1..40usize, prop::option::of(0..30usize)), 1..14),
    ) {
        let engine = start(tight(), Behavior::default());
        let streams: Vec<_> = plans
            .iter()
            .map(|(seed, max_tokens, _)| engine.submit(request(sampled_draft(*seed, *max_tokens))).unwrap())
            .collect();
        for ((seed, max_tokens, cancel_after), mut stream) in plans.iter().zip(streams) {
            let expected = alone(&sampled_draft(*seed, *max_tokens));
            match cancel_after {
                None => prop_assert_eq!(rest(stream), expected),
                Some(num_events) => {
                    for event in expected.into_iter().take(*num_events) {
                        prop_assert_eq!(stream.blocking_next(), Some(event));
                    }
                }
            }
        }
        wait_for(&engine, |stats| stats.finished.total() == plans.len() as u64);
        assert_idle(&engine);
    }
}

#[test]
fn a_dropped_stream_is_an_abort() {
    let engine = start(roomy(), Behavior { step_time: Duration::from_millis(1), ..Behavior::default() });
    let mut stream = engine.submit(request(sampled_draft(1, 150))).unwrap();
    assert!(matches!(stream.blocking_next(), Some(Event::Token(_))));
    drop(stream);
    let stats = assert_idle(&engine);
    assert_eq!(stats.finished.abort, 1);
    assert!(stats.num_steps < 50, "{} steps for nobody", stats.num_steps);
}

#[test]
fn a_stream_that_was_read_to_its_end_is_no_abort() {
    let engine = start(roomy(), Behavior::default());
    for seed in 0..20 {
        rest(engine.submit(request(sampled_draft(seed, 3))).unwrap());
    }
    let stats = assert_idle(&engine);
    assert_eq!((stats.finished.abort, stats.finished.length), (0, 20));
}

/// How many of eight requests came through, with every stream read to its one end.
fn survivors(fault: Fault) -> usize {
    let engine = start(tight(), Behavior { fault: Some(fault), ..Behavior::default() });
    let drafts: Vec<_> = (0..8).map(|seed| sampled_draft(seed, 12)).collect();
    let streams: Vec<_> = drafts.iter().map(|draft| engine.submit(request(draft.clone()))).collect();
    let mut num_survivors = 0;
    for (draft, stream) in drafts.iter().zip(streams) {
        match stream {
            Ok(stream) => num_survivors += usize::from(came_through(rest(stream), &alone(draft))),
            Err(error) => assert_eq!(error, SubmitError::Stopped),
        }
    }
    if num_survivors < drafts.len() {
        assert_stopped(&engine);
    }
    num_survivors
}

fn came_through(mut events: Vec<Event>, expected: &[Event]) -> bool {
    if events == expected {
        return true;
    }
    let last = events.pop();
    assert!(matches!(last, Some(Event::Failed(_))), "no end: {last:?}");
    assert_eq!(events, expected[..events.len()], "what was sent before the fault is right");
    false
}

fn assert_stopped(engine: &trefoil_runtime::engine::EngineHandle) {
    let phase = block_on(engine.shutdown());
    assert!(matches!(phase, Phase::Stopped(Failure::Device(_) | Failure::Panicked(_))), "{phase:?}");
    let refused = engine.submit(request(sampled_draft(0, 1))).err();
    assert_eq!(refused, Some(SubmitError::Stopped));
    let stats = engine.stats();
    assert_eq!((stats.busy, stats.num_running, stats.num_waiting), (false, 0, 0));
}

/// The N-th call fails, for every N, until a run comes through untouched.
fn fail_each(fault: impl Fn(u64) -> Fault) {
    let mut num_failing = 0;
    while survivors(fault(num_failing)) < 8 {
        num_failing += 1;
    }
    assert!(num_failing > 20, "only {num_failing} calls were ever made");
}

#[test]
fn a_fault_in_any_launch_fails_what_is_in_flight() {
    fail_each(Fault::Launch);
}

#[test]
fn a_fault_in_any_collection_fails_what_is_in_flight() {
    fail_each(Fault::Collect);
}

#[test]
fn a_panic_in_any_launch_is_a_fault() {
    fail_each(Fault::PanicInLaunch);
}

#[test]
fn a_panic_in_any_collection_is_a_fault() {
    fail_each(Fault::PanicInCollect);
}
