//! The door of the engine: queue, drain, shutdown, health, statistics.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use trefoil_runtime::device::simulated::SimulatedExecutor;
use trefoil_runtime::engine::{
    Ending, Engine, EngineConfig, EngineHandle, EngineObserver, Event, Failure, Phase, RequestSummary, StartError,
    StepSummary, Stream, SubmitError,
};
use trefoil_runtime::executor::{Capacity, DeviceFault, Executor, Step, StepResult};

use crate::bench::*;

fn slow() -> Behavior {
    Behavior { step_time: Duration::from_millis(2), ..Behavior::default() }
}

#[test]
fn the_queue_is_bounded_by_requests_that_have_not_begun() {
    let capacity = Capacity { max_num_seqs: 1, ..roomy() };
    let config = EngineConfig { max_num_queued_reqs: 2, ..EngineConfig::default() };
    let engine = Engine::start(SimulatedExecutor::new(capacity, slow()), config).unwrap();
    let mut first = engine.submit(request(sampled_draft(1, 100))).unwrap();
    assert!(matches!(first.blocking_next(), Some(Event::Token(_))));
    let second = engine.submit(request(sampled_draft(2, 1))).unwrap();
    let third = engine.submit(request(sampled_draft(3, 1))).unwrap();
    let refused = engine.submit(request(sampled_draft(4, 1))).err();
    assert_eq!(refused, Some(SubmitError::QueueFull { max_num_queued_reqs: 2 }));
    drop(second);
    wait_for(&engine, |stats| stats.finished.abort == 1);
    let fourth = engine.submit(request(sampled_draft(4, 1))).expect("a cancelled place is free");
    for stream in [first, third, fourth] {
        assert!(matches!(rest(stream).pop(), Some(Event::Finished { .. })));
    }
    assert_idle(&engine);
}

#[test]
fn what_can_never_fit_is_refused() {
    let capacity = Capacity { num_pages: 2, page_tokens: 8, ..roomy() };
    let engine = start(capacity, Behavior::default());
    assert_eq!(engine.bounds().max_model_len, 17, "the last token needs no page");
    let mut draft = sampled_draft(0, 16);
    assert_eq!(draft.prompt.len(), 1);
    assert_eq!(rest(engine.submit(request(draft.clone())).unwrap()), alone(&draft));
    draft.stopping.max_tokens = Some(17);
    let refused = engine.submit(request(draft)).err();
    assert!(matches!(refused, Some(SubmitError::NeverFits(fits)) if fits.num_needed == 3));
}

#[test]
fn drain_finishes_what_there_is_and_takes_no_more() {
    let engine = start(roomy(), slow());
    let drafts: Vec<_> = (0..30).map(|seed| sampled_draft(seed, 20)).collect();
    let streams: Vec<_> = drafts.iter().map(|draft| engine.submit(request(draft.clone())).unwrap()).collect();
    let drained = engine.drain();
    assert_eq!(engine.submit(request(sampled_draft(0, 1))).err(), Some(SubmitError::Draining));
    assert_eq!(block_on(drained), Phase::Drained);
    for (draft, stream) in drafts.iter().zip(streams) {
        assert_eq!(rest(stream), alone(draft));
    }
    assert_idle(&engine);
    assert_eq!(engine.submit(request(sampled_draft(0, 1))).err(), Some(SubmitError::Draining));
    assert_eq!(block_on(engine.drain()), Phase::Drained, "a second drain is no harm");
    assert_eq!(block_on(engine.shutdown()), Phase::Stopped(Failure::ShutDown));
}

#[test]
fn an_idle_engine_drains_at_once() {
    let engine = start(roomy(), Behavior::default());
    assert_eq!(block_on(engine.drain()), Phase::Drained);
}

#[test]
fn shutdown_fails_what_is_left() {
    let engine = start(roomy(), slow());
    let streams: Vec<_> = (0..30).map(|seed| engine.submit(request(sampled_draft(seed, 100))).unwrap()).collect();
    assert_eq!(block_on(engine.shutdown()), Phase::Stopped(Failure::ShutDown));
    for stream in streams {
        let last = rest(stream).pop();
        assert!(matches!(last, Some(Event::Failed(Failure::ShutDown | Failure::NeverBegun))), "{last:?}");
    }
    assert_eq!(engine.submit(request(sampled_draft(0, 1))).err(), Some(SubmitError::Stopped));
}

#[test]
fn streams_outlive_the_last_handle() {
    let engine = start(roomy(), Behavior::default());
    let draft = sampled_draft(3, 50);
    let stream = engine.submit(request(draft.clone())).unwrap();
    drop(engine);
    assert_eq!(rest(stream), alone(&draft));
}

#[test]
fn streams_can_be_awaited() {
    let engine = start(roomy(), Behavior::default());
    let draft = sampled_draft(3, 20);
    let mut stream = engine.submit(request(draft.clone())).unwrap();
    let mut events = vec![block_on(stream.next()).unwrap()];
    events.extend(block_on(StreamExt::collect::<Vec<_>>(stream)));
    assert_eq!(events, alone(&draft));
}

#[test]
fn stalls_show_while_there_is_work_only() {
    let behavior = Behavior { step_time: Duration::from_millis(60), ..Behavior::default() };
    let engine = start(roomy(), behavior);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(engine.stats().stalled_for(Instant::now()), None);
    let stream = engine.submit(request(sampled_draft(1, 1))).unwrap();
    let stats = wait_for(&engine, |stats| stats.busy);
    let stalled = stats.stalled_for(Instant::now()).unwrap();
    assert!(stalled < Duration::from_millis(50), "work has only begun, not {stalled:?} ago");
    wait_for(&engine, |stats| {
        stats.stalled_for(Instant::now()).is_some_and(|stalled| stalled > Duration::from_millis(30))
    });
    rest(stream);
    assert_eq!(assert_idle(&engine).stalled_for(Instant::now()), None);
}

#[test]
fn handles_and_streams_go_between_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<EngineHandle>();
    is_send_and_sync::<Stream>();
}

#[test]
fn an_executor_that_holds_nothing_is_refused() {
    let capacity = Capacity { num_pages: 0, ..roomy() };
    let executor = SimulatedExecutor::new(capacity, Behavior::default());
    let error = Engine::start(executor, EngineConfig::default()).err();
    assert!(matches!(error, Some(StartError::EmptyCapacity("num_pages"))), "{error:?}");
}

#[derive(Default)]
struct Notes {
    num_first_tokens: usize,
    num_further_tokens: usize,
    num_step_tokens: usize,
    num_refusals: usize,
    requests: Vec<RequestSummary>,
}

#[derive(Default)]
struct Noting(Mutex<Notes>);

impl EngineObserver for Noting {
    fn on_step(&self, step: &StepSummary) {
        assert!(step.num_decode_tokens <= step.num_tokens && step.num_seqs > 0);
        self.0.lock().unwrap().num_step_tokens += step.num_tokens;
    }

    fn on_first_token(&self, _: Duration) {
        self.0.lock().unwrap().num_first_tokens += 1;
    }

    fn on_token(&self, _: Duration) {
        self.0.lock().unwrap().num_further_tokens += 1;
    }

    fn on_finished(&self, request: &RequestSummary) {
        self.0.lock().unwrap().requests.push(request.clone());
    }

    fn on_refused(&self, _: &SubmitError) {
        self.0.lock().unwrap().num_refusals += 1;
    }
}

#[test]
fn observers_hear_everything_once() {
    let noting = Arc::new(Noting::default());
    let config = EngineConfig { observer: noting.clone(), ..EngineConfig::default() };
    let engine = Engine::start(SimulatedExecutor::new(roomy(), slow()), config).unwrap();
    rest(engine.submit(request(sampled_draft(22, 5))).unwrap());
    assert_idle(&engine);
    assert!(engine.submit(request(sampled_draft(0, 150))).is_ok(), "and dropped at once");
    assert_idle(&engine);
    block_on(engine.drain());
    assert!(engine.submit(request(sampled_draft(0, 1))).is_err());

    let notes = noting.0.lock().unwrap();
    assert_eq!(notes.num_refusals, 1);
    assert_eq!(notes.requests.len(), 2);
    let request = &notes.requests[0];
    assert_eq!(request.ending, Ending::Length);
    assert_eq!((request.num_prompt_tokens, request.num_generated_tokens), (23, 5));
    assert_eq!(request.max_tokens, 5);
    let parts = request.queued.unwrap() + request.inference().unwrap();
    assert!(parts <= request.end_to_end && request.inference().unwrap() > Duration::from_millis(5));
    assert!(request.time_per_output_token().unwrap() > Duration::from_millis(1));
    assert_eq!(notes.requests[1].ending, Ending::Abort);
    assert!(notes.num_first_tokens >= 1 && notes.num_further_tokens >= 4);
    assert!(notes.num_step_tokens >= 23 + 4, "the prompt, and each token but the last");
}

/// Writes down the order of calls.
struct Tracing {
    inner: SimulatedExecutor,
    calls: Arc<Mutex<String>>,
}

impl Executor for Tracing {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn launch(&mut self, step: Step) -> Result<(), DeviceFault> {
        self.calls.lock().unwrap().push('L');
        self.inner.launch(step)
    }

    fn collect(&mut self) -> Result<StepResult, DeviceFault> {
        self.calls.lock().unwrap().push('C');
        self.inner.collect()
    }
}

#[test]
fn a_step_is_launched_before_the_last_one_is_read() {
    let calls = Arc::default();
    let inner = SimulatedExecutor::new(roomy(), Behavior::default());
    let executor = Tracing { inner, calls: Arc::clone(&calls) };
    let engine = Engine::start(executor, EngineConfig::default()).unwrap();
    rest(engine.submit(request(sampled_draft(1, 4))).unwrap());
    assert_eq!(*calls.lock().unwrap(), "LLCLCLCC", "and no step follows the last token by length");
}

/// Not the observer's tests, but the engine's: a panic on its thread ends every stream.
#[test]
fn an_observer_that_panics_ends_the_engine_and_nothing_more() {
    struct Panicking;
    impl EngineObserver for Panicking {
        fn on_first_token(&self, _: Duration) {
            panic!("planted");
        }
    }
    let config = EngineConfig { observer: Arc::new(Panicking), ..EngineConfig::default() };
    let executor = SimulatedExecutor::new(roomy(), Behavior::default());
    let engine = Engine::start(executor, config).unwrap();
    let events = rest(engine.submit(request(sampled_draft(1, 5))).unwrap());
    assert_eq!(events, [Event::Failed(Failure::Panicked("planted".to_owned()))]);
}
