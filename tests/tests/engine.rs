//! The engine over compiled models on the CPU: a request's tokens depend on nothing but the request.

use trefoil_runtime::engine::{Engine, EngineConfig, EngineHandle, Event, Stream};
use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
use trefoil_tests::goldens;
use trefoil_tests::random::Random;
use trefoil_tests::steps::{self, Setting};

/// A page of 32 tokens in f32: two layers of two heads, keys 16 wide and values padded to a panel of 32.
const PAGE_BYTES: usize = 24 << 10;

fn engine(setting: &Setting) -> EngineHandle {
    Engine::start(steps::executor(&goldens::folder("llama2"), setting), EngineConfig::default()).expect("an engine")
}

fn drafts(random: &mut Random) -> Vec<Draft> {
    let draft = |number: usize| Draft {
        prompt: (0..1 + random.below(70)).map(|_| random.below(128) as u32).collect(),
        sampling: Sampling { temperature: 0.8, top_p: 0.95, seed: number as u64, ..Sampling::default() },
        stopping: Stopping { max_tokens: Some(1 + random.below(90)), ..Stopping::default() },
        num_logprobs: Some(0),
    };
    (0..14).map(draft).collect()
}

/// Each request's tokens with the bits of their log-probabilities, all requests offered at once.
fn tokens(engine: &EngineHandle, drafts: &[Draft]) -> Vec<Vec<(u32, Option<u32>)>> {
    let submit = |draft: &Draft| {
        let request = Request::new(draft.clone(), engine.bounds()).expect("a request");
        engine.submit(request).expect("a place in the queue")
    };
    let streams: Vec<Stream> = drafts.iter().map(submit).collect();
    let read = |mut stream: Stream| {
        let events = std::iter::from_fn(|| stream.blocking_next());
        let token = |event| match event {
            Event::Token(sampled) => Some((sampled.token, sampled.logprob.map(f32::to_bits))),
            Event::Finished { .. } => None,
            Event::Failed(failure) => panic!("{failure}"),
        };
        events.filter_map(token).collect()
    };
    streams.into_iter().map(read).collect()
}

#[test]
fn too_few_pages_change_no_token() {
    let mut random = Random::fresh();
    let drafts = drafts(&mut random);
    let roomy = engine(&Setting::plain("sequential"));
    let expected = tokens(&roomy, &drafts);
    assert_eq!(roomy.stats().num_preemptions, 0);
    for plan in ["sequential", "overlap-2"] {
        let tight = engine(&Setting { kv_memory_bytes: 7 * PAGE_BYTES, ..Setting::plain(plan) });
        assert_eq!(tokens(&tight, &drafts), expected, "{random}: {plan}");
        let stats = tight.stats();
        assert!(stats.num_preemptions > 0, "{random}: the pool was never short, so nothing was tested");
        assert_eq!(stats.num_pages_free, stats.num_pages_total, "{random}: pages were lost");
    }
}

#[test]
fn company_changes_no_token() {
    let mut random = Random::fresh();
    let drafts = drafts(&mut random);
    let engine = engine(&Setting { num_threads: 2, ..Setting::plain("overlap-2") });
    let together = tokens(&engine, &drafts);
    let alone: Vec<_> = drafts.iter().flat_map(|draft| tokens(&engine, std::slice::from_ref(draft))).collect();
    assert_eq!(together, alone, "{random}");
}
