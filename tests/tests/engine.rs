//! The engine over compiled models on the CPU: a request's tokens depend on nothing but the request.

use trefoil_runtime::engine::{Engine, EngineConfig, EngineHandle, Event, Stream};
use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
use trefoil_tests::goldens;
use trefoil_tests::random::Random;
use trefoil_tests::steps::{self, Setting};

/// A page of 32 tokens in f32: two layers of two heads, keys 16 wide and values padded to a panel of 32.
const PAGE_BYTES: usize = 24 << 10;

fn engine(setting: &Setting) -> EngineHandle {
    engine_of("llama2", setting)
}

fn engine_of(model: &str, setting: &Setting) -> EngineHandle {
    Engine::start(steps::executor(&goldens::folder(model), setting), EngineConfig::default()).expect("an engine")
}

/// The first three begin together in seven pages of 32 tokens and outgrow them.
fn drafts(random: &mut Random) -> Vec<Draft> {
    let draft = |number: usize| {
        let (prompt, output) = if number < 3 { (60, 90) } else { (1 + random.below(70), 1 + random.below(90)) };
        Draft {
            prompt: (0..prompt).map(|_| random.below(128) as u32).collect(),
            sampling: Sampling { temperature: 0.8, top_p: 0.95, seed: number as u64, ..Sampling::default() },
            stopping: Stopping { max_tokens: Some(output), ..Stopping::default() },
            num_logprobs: Some(0),
        }
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

/// dots.llm1 has a dense layer, then layers with five experts, two for each row.
#[test]
fn every_row_is_counted_with_its_experts() {
    let mut random = Random::fresh();
    let drafts = drafts(&mut random);
    for plan in ["sequential", "overlap-2"] {
        let engine = engine_of("dots1", &Setting { num_threads: 2, ..Setting::plain(plan) });
        let given: usize = tokens(&engine, &drafts).iter().map(Vec::len).sum();
        let prompts: usize = drafts.iter().map(|draft| draft.prompt.len()).sum();
        // The last token of each request is sampled and never run; a step more may have run before its end was known.
        let least = (prompts + given - drafts.len()) as u64;
        let (loads, num_steps) = (engine.expert_loads(), engine.stats().num_steps);
        assert!(!loads.is_empty() && loads.iter().all(|load| load.layer > 0 && load.rows.len() == 5), "{loads:?}");
        for load in loads {
            let rows: u64 = load.rows.iter().sum();
            assert!((2 * least..=2 * (least + drafts.len() as u64)).contains(&rows), "{random}: {load:?}, {least}");
            assert!((2 * num_steps..=5 * num_steps).contains(&load.reads), "{random}: {load:?} in {num_steps} steps");
        }
    }
    assert!(engine(&Setting::plain("sequential")).expert_loads().is_empty(), "a dense model has no experts");
}
