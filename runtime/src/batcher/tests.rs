//! Random histories of submissions, cancellations, steps and results, with every step checked against a plain model
//! of each sequence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{Batcher, Formed, NeverFits, Outcome, WrongResult};
use crate::executor::{Capacity, Input, PageIndex, Part, RowError, StepResult};
use crate::request::{Bounds, Draft, Request, Sampling, Stopping, TokenId};
use crate::sampler::Sampled;
use crate::sequence::{FinishReason, SequenceId};

const VOCAB: usize = 50;
const EOS: TokenId = 0;

#[derive(Debug, Clone)]
enum Operation {
    Submit {
        num_prompt: usize,
        max_tokens: usize,
    },
    /// One of the sequences that are left.
    Cancel(usize),
    Form,
    /// The oldest step comes back with these tokens; ids beyond the vocabulary stand for failed rows.
    Collect(Vec<TokenId>),
}

fn capacities() -> impl Strategy<Value = Capacity> {
    (1..5usize, 1..12usize, 1..6usize, 0..10usize).prop_map(|sizes| {
        let (page_tokens, max_num_batched_tokens, max_num_seqs, spare_pages) = sizes;
        // The longest request of these tests has 15 + 20 tokens.
        let num_pages = 34usize.div_ceil(page_tokens) + spare_pages;
        Capacity { vocab: VOCAB, max_model_len: 100, max_num_batched_tokens, max_num_seqs, page_tokens, num_pages }
    })
}

fn results() -> impl Strategy<Value = Vec<TokenId>> {
    let token = prop_oneof![20 => 1..VOCAB as u32, 1 => Just(EOS), 1 => Just(u32::MAX)];
    prop::collection::vec(token, 8)
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        3 => (1..16usize, 1..21usize)
            .prop_map(|(num_prompt, max_tokens)| Operation::Submit { num_prompt, max_tokens }),
        1 => (0..10usize).prop_map(Operation::Cancel),
        8 => Just(Operation::Form),
        8 => results().prop_map(Operation::Collect),
    ];
    prop::collection::vec(operation, 1..150)
}

/// What one sequence must be like.
#[derive(Debug)]
struct Expected {
    known: Vec<TokenId>,
    num_prompt: usize,
    max_tokens: usize,
    num_in_flight: usize,
    /// Position of its next row; `None` while it waits.
    next_position: Option<usize>,
}

/// A step in flight, as far as it can do harm.
struct Launched {
    sampling: Vec<SequenceId>,
    pages: BTreeMap<PageIndex, SequenceId>,
}

struct Bench {
    batcher: Batcher,
    /// Most steps in flight. The engine keeps two; the batcher's rules hold for any number.
    most_in_flight: usize,
    capacity: Capacity,
    alive: BTreeMap<SequenceId, Expected>,
    in_flight: VecDeque<Launched>,
    next_id: u64,
    num_preemptions: usize,
}

fn request(num_prompt: usize, max_tokens: usize) -> Request {
    let draft = Draft {
        prompt: (0..num_prompt as u32).map(|i| 1 + i % 40).collect(),
        sampling: Sampling::default(),
        stopping: Stopping { max_tokens: Some(max_tokens), eos: vec![EOS], ..Stopping::default() },
        num_logprobs: None,
    };
    Request::new(draft, Bounds { vocab: VOCAB, max_model_len: 100, max_logprobs: 0 }).unwrap()
}

fn row(token: TokenId) -> Result<Sampled, RowError> {
    if token == u32::MAX {
        return Err(RowError::NotFinite);
    }
    Ok(Sampled { token, logprob: None, top: Vec::new() })
}

impl Bench {
    fn new(capacity: Capacity, most_in_flight: usize) -> Self {
        let batcher = Batcher::new(&capacity);
        let (alive, in_flight) = (BTreeMap::new(), VecDeque::new());
        Self { batcher, most_in_flight, capacity, alive, in_flight, next_id: 0, num_preemptions: 0 }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Submit { num_prompt, max_tokens } => self.submit(num_prompt, max_tokens),
            Operation::Cancel(which) => self.cancel(which),
            Operation::Form if self.in_flight.len() < self.most_in_flight => self.form(),
            Operation::Collect(tokens) if !self.in_flight.is_empty() => self.collect(&tokens),
            Operation::Form | Operation::Collect(_) => {}
        }
        self.batcher.audit().expect("the invariants hold");
        let waiting = self.alive.values().filter(|expected| expected.next_position.is_none()).count();
        assert_eq!(self.batcher.num_waiting(), waiting);
        assert_eq!(self.batcher.num_running(), self.alive.len() - waiting, "a request is lost");
    }

    fn submit(&mut self, num_prompt: usize, max_tokens: usize) {
        let request = request(num_prompt, max_tokens);
        let known = request.prompt().to_vec();
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.batcher.submit(id, request).expect("it fits");
        let expected = Expected { known, num_prompt, max_tokens, num_in_flight: 0, next_position: None };
        self.alive.insert(id, expected);
    }

    fn cancel(&mut self, which: usize) {
        let id = self.alive.keys().nth(which).copied();
        assert_eq!(self.batcher.cancel(id.unwrap_or(SequenceId(u64::MAX))), id.is_some());
        id.map(|id| self.alive.remove(&id));
    }

    fn form(&mut self) {
        let idle = self.in_flight.is_empty();
        let formed = self.batcher.next_step();
        self.check_moves(&formed);
        self.check_shape(&formed);
        let mut launched = Launched { sampling: Vec::new(), pages: BTreeMap::new() };
        for (id, part) in formed.sequences.iter().zip(&formed.step.parts) {
            self.check_part(*id, part, &mut launched);
        }
        if !formed.step.parts.is_empty() {
            self.in_flight.push_back(launched);
        }
        assert!(!idle || self.in_flight.len() == 1 || self.alive.is_empty(), "no progress");
    }

    fn check_moves(&mut self, formed: &Formed) {
        for id in &formed.preempted {
            let running = self.alive.iter().filter(|(_, expected)| expected.next_position.is_some());
            let newest = running.map(|(id, _)| *id).max();
            assert_eq!(Some(*id), newest, "the newest is preempted");
            assert_ne!(self.alive.keys().next(), Some(id), "the oldest is never preempted");
            self.expected(*id).next_position = None;
            self.num_preemptions += 1;
            // What it gave up is safe by the order of steps; only pages of ended sequences must rest.
            self.in_flight.iter_mut().for_each(|step| step.pages.retain(|_, owner| owner != id));
        }
        for id in &formed.admitted {
            let mut waiting = self.alive.iter().filter(|(_, expected)| expected.next_position.is_none());
            assert_eq!(waiting.next().map(|(id, _)| id), Some(id), "the oldest that waits is admitted");
            assert_eq!(self.expected(*id).num_in_flight, 0);
            self.expected(*id).next_position = Some(0);
        }
    }

    fn check_shape(&self, formed: &Formed) {
        let step = &formed.step;
        assert!(step.num_tokens() <= self.capacity.max_num_batched_tokens, "over budget");
        assert!(step.parts.len() <= self.capacity.max_num_seqs);
        assert!(step.parts[..step.num_decodes].iter().all(|part| part.num_tokens() == 1));
        let sequences: BTreeSet<_> = formed.sequences.iter().collect();
        let slots: BTreeSet<_> = step.parts.iter().map(|part| part.slot).collect();
        assert_eq!(sequences.len(), step.parts.len(), "a sequence appears twice");
        assert_eq!(slots.len(), step.parts.len(), "a slot appears twice");
    }

    fn check_part(&mut self, id: SequenceId, part: &Part, launched: &mut Launched) {
        self.check_pages(id, part, launched);
        let expected = self.expected(id);
        let end = part.position + part.num_tokens();
        assert_eq!(Some(part.position), expected.next_position, "{id} skips or repeats positions");
        match &part.input {
            Input::Known(tokens) => assert_eq!(*tokens, expected.known[part.position..end]),
            Input::LastSampled => {
                assert!(expected.num_in_flight > 0 && end == expected.known.len() + expected.num_in_flight)
            }
        }
        let samples = end == expected.known.len() + expected.num_in_flight;
        assert_eq!(part.sample.is_some(), samples, "{id} samples at its newest token");
        expected.num_in_flight += usize::from(samples);
        expected.next_position = Some(end);
        let num_generated = expected.known.len() - expected.num_prompt;
        assert!(num_generated + expected.num_in_flight <= expected.max_tokens, "{id} outruns its length");
        if samples {
            launched.sampling.push(id);
        }
    }

    fn check_pages(&self, id: SequenceId, part: &Part, launched: &mut Launched) {
        let end = part.position + part.num_tokens();
        assert_eq!(part.pages.len(), end.div_ceil(self.capacity.page_tokens));
        for page in &part.pages {
            assert_eq!(launched.pages.insert(*page, id), None, "{page:?} appears twice");
            let named = self.in_flight.iter().filter_map(|step| step.pages.get(page));
            for owner in named.filter(|owner| **owner != id) {
                assert!(self.alive.contains_key(owner), "{page:?} of the ended {owner} is still in flight");
            }
        }
    }

    fn collect(&mut self, tokens: &[TokenId]) {
        let Some(launched) = self.in_flight.pop_front() else { return };
        let tokens: Vec<_> = tokens.iter().cycle().take(launched.sampling.len()).collect();
        let sampled = tokens.iter().map(|token| row(**token)).collect();
        let outcomes = self.batcher.collect(StepResult { sampled }).expect("the result fits");
        let mut outcomes = outcomes.into_iter();
        for (id, token) in launched.sampling.into_iter().zip(tokens) {
            if self.alive.contains_key(&id) {
                let outcome = outcomes.next().expect("every live row has an outcome");
                self.check_outcome(id, *token, &outcome);
            }
        }
        assert_eq!(outcomes.next(), None, "a dropped token was told");
    }

    fn check_outcome(&mut self, id: SequenceId, token: TokenId, outcome: &Outcome) {
        assert_eq!((outcome.id, &outcome.row), (id, &row(token)));
        let expected = self.expected(id);
        let failed = outcome.row.is_err();
        if !failed {
            expected.num_in_flight -= 1;
            expected.known.push(token);
        }
        let num_generated = expected.known.len() - expected.num_prompt;
        assert_eq!(outcome.num_generated_tokens, num_generated);
        let by_length = (num_generated == expected.max_tokens).then_some(FinishReason::Length);
        let by_token = (token == EOS).then_some(FinishReason::EndOfSequence(EOS));
        let ends = if failed { None } else { by_token.or(by_length) };
        assert_eq!(outcome.ends, ends);
        if failed || ends.is_some() {
            self.alive.remove(&id);
        }
    }

    fn expected(&mut self, id: SequenceId) -> &mut Expected {
        self.alive.get_mut(&id).unwrap_or_else(|| panic!("{id} is not there"))
    }

    /// Runs to the end. Every two turns bring the oldest a row further, or a chunk of its prompt.
    fn finish(&mut self) {
        let rows = self.alive.values().map(|expected| expected.known.len() + expected.max_tokens);
        let most_turns = 8 * rows.sum::<usize>() + 8;
        for _ in 0..most_turns {
            if self.batcher.is_idle() {
                break;
            }
            self.apply(Operation::Form);
            self.apply(Operation::Collect(vec![1]));
        }
        assert!(self.batcher.is_idle() && self.alive.is_empty(), "{} are left", self.alive.len());
        let census = self.batcher.census();
        assert_eq!(census.num_free, census.num_total, "pages leak");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_history_keeps_the_invariants_and_ends(
        capacity in capacities(),
        most_in_flight in 1..4usize,
        operations in operations(),
    ) {
        let mut bench = Bench::new(capacity, most_in_flight);
        for operation in operations {
            bench.apply(operation);
        }
        bench.finish();
    }
}

fn capacity() -> Capacity {
    Capacity {
        vocab: VOCAB,
        max_model_len: 100,
        max_num_batched_tokens: 8,
        max_num_seqs: 4,
        page_tokens: 2,
        num_pages: 10,
    }
}

#[test]
fn decodes_come_first_and_prompts_fill_the_rest() {
    let mut bench = Bench::new(capacity(), 2);
    bench.submit(3, 5);
    bench.form();
    bench.submit(10, 5);
    let formed = bench.batcher.next_step();
    let sizes: Vec<_> = formed.step.parts.iter().map(Part::num_tokens).collect();
    assert_eq!((formed.step.num_decodes, sizes), (1, vec![1, 7]));
    assert_eq!(formed.step.parts[0].input, Input::LastSampled);
}

#[test]
fn the_newest_gives_way_and_begins_again_with_its_tokens() {
    // Two sequences of 4 + 12 tokens need 8 pages each; there are 10.
    let mut bench = Bench::new(capacity(), 2);
    bench.submit(4, 12);
    bench.submit(4, 12);
    bench.finish();
    assert!((1..3).contains(&bench.num_preemptions), "{} preemptions", bench.num_preemptions);
}

#[test]
fn a_decode_that_waits_for_pages_is_not_taken_for_a_prefill() {
    let pages_of_one = Capacity { page_tokens: 1, num_pages: 38, max_num_seqs: 5, ..capacity() };
    let mut bench = Bench::new(pages_of_one, 2);
    (0..4).for_each(|_| bench.submit(1, 5));
    bench.submit(30, 5);
    bench.form();
    bench.form();
    bench.collect(&[1]);
    // The fourth gives back two pages, of which the third gets none; those of the fifth come one step later.
    bench.cancel(3);
    bench.form();
    bench.collect(&[1]);
    bench.cancel(3);
    let formed = bench.batcher.next_step();
    assert_eq!(formed.sequences, [SequenceId(0), SequenceId(1)]);
    assert_eq!(formed.preempted, []);
}

#[test]
fn a_newcomer_is_not_admitted_to_be_preempted() {
    let pressed = Capacity { num_pages: 40, max_num_seqs: 16, max_num_batched_tokens: 32, ..capacity() };
    let mut bench = Bench::new(pressed, 2);
    (0..100).for_each(|num| bench.submit(1 + num % 15, 20));
    bench.finish();
    assert!((1..120).contains(&bench.num_preemptions), "{} preemptions", bench.num_preemptions);
}

#[test]
fn a_request_that_never_fits_is_refused() {
    let mut batcher = Batcher::new(&capacity());
    let refused = batcher.submit(SequenceId(0), request(2, 20));
    assert_eq!(refused, Err(NeverFits { num_needed: 11, num_pages: 10 }));
    assert_eq!(batcher.submit(SequenceId(0), request(2, 19)), Ok(()));
}

#[test]
fn a_result_of_another_step_is_refused() {
    let mut bench = Bench::new(capacity(), 2);
    bench.submit(3, 5);
    assert_eq!(bench.batcher.collect(StepResult { sampled: vec![row(1)] }), Err(WrongResult { asked: 0, got: 1 }));
    assert_eq!(bench.batcher.collect(StepResult::default()), Err(WrongResult { asked: 0, got: 0 }));
    bench.form();
    assert_eq!(bench.batcher.collect(StepResult::default()), Err(WrongResult { asked: 1, got: 0 }));
    bench.collect(&[1]);
}
