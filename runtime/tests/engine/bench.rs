//! What the engine tests share: a device, requests, and the text that a request must have.

use std::time::{Duration, Instant};

use trefoil_runtime::device::simulated::{SimulatedExecutor, hash_logits};
use trefoil_runtime::engine::{Engine, EngineConfig, EngineHandle, EngineStats, Event, FinishReason, Stream};
use trefoil_runtime::executor::Capacity;
use trefoil_runtime::request::{Bounds, Draft, Request, Sampling, Stopping};
use trefoil_runtime::sampler::Sampler;

pub(crate) use trefoil_runtime::device::simulated::Behavior;

/// Small, so that ends and repetitions happen.
pub(crate) const VOCAB: usize = 64;

/// Room for everything.
pub(crate) fn roomy() -> Capacity {
    Capacity {
        vocab: VOCAB,
        max_model_len: 200,
        max_num_batched_tokens: 64,
        max_num_seqs: 16,
        page_tokens: 8,
        num_pages: 1000,
    }
}

pub(crate) fn start(capacity: Capacity, behavior: Behavior) -> EngineHandle {
    Engine::start(SimulatedExecutor::new(capacity, behavior), EngineConfig::default()).unwrap()
}

pub(crate) fn request(draft: Draft) -> Request {
    Request::new(draft, Bounds { vocab: VOCAB, max_model_len: 200, max_logprobs: 5 }).unwrap()
}

/// A request with a prompt of its own, sampled at temperature 1, that runs to its length.
pub(crate) fn sampled_draft(seed: u64, max_tokens: usize) -> Draft {
    let len = 1 + seed % 23;
    Draft {
        prompt: (0..len).map(|i| ((seed * 31 + i * i * 7) % VOCAB as u64) as u32).collect(),
        sampling: Sampling { seed, ..Sampling::default() },
        stopping: Stopping { max_tokens: Some(max_tokens), ..Stopping::default() },
        num_logprobs: None,
    }
}

/// All events that are left.
pub(crate) fn rest(mut stream: Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.blocking_next()).collect()
}

/// The events of a request, computed without engine, batcher, pages or device (of key 0).
pub(crate) fn alone(draft: &Draft) -> Vec<Event> {
    let mut history = draft.prompt.clone();
    let mut sampler = Sampler::new(&draft.sampling, &draft.stopping, &draft.prompt, draft.num_logprobs);
    let mut events = Vec::new();
    for num_generated_tokens in 1.. {
        let mut logits = hash_logits(0, history.iter().copied(), VOCAB);
        let sampled = sampler.sample(&mut logits).unwrap();
        history.push(sampled.token);
        let token = sampled.token;
        let reason = if draft.stopping.eos.contains(&token) && !draft.stopping.ignore_eos {
            Some(FinishReason::EndOfSequence(token))
        } else if draft.stopping.stop_tokens.contains(&token) {
            Some(FinishReason::StopToken(token))
        } else {
            events.push(Event::Token(sampled));
            (Some(num_generated_tokens) == draft.stopping.max_tokens).then_some(FinishReason::Length)
        };
        if let Some(reason) = reason {
            events.push(Event::Finished { reason, num_generated_tokens });
            break;
        }
    }
    events
}

/// Waits until the engine has nothing to do, and checks that it holds nothing.
pub(crate) fn assert_idle(engine: &EngineHandle) -> EngineStats {
    let stats = wait_for(engine, |stats| !stats.busy);
    assert_eq!((stats.num_running, stats.num_waiting), (0, 0));
    assert_eq!(stats.num_pages_free, stats.num_pages_total, "pages leak");
    stats
}

/// Waits until the statistics are as they should be.
pub(crate) fn wait_for(engine: &EngineHandle, awaited: impl Fn(&EngineStats) -> bool) -> EngineStats {
    let begin = Instant::now();
    loop {
        let stats = engine.stats();
        if awaited(&stats) {
            return stats;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain: {stats:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limit = Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(limit, future).await.expect("it ends in time") })
}
