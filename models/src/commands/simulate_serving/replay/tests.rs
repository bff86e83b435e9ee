//! Replays small enough to be worked out by hand.

use super::*;
use crate::lengths::Lengths;

const CAPACITY: Capacity = Capacity {
    vocab: 1,
    max_model_len: 1000,
    max_num_batched_tokens: 8,
    max_num_seqs: 4,
    page_tokens: 4,
    num_pages: 100,
};

fn request(at: f64, input: usize, output: usize) -> Arriving {
    Arriving { at, lengths: Lengths { input, output } }
}

/// A step takes 10 s, and one for each of its rows.
fn run(requests: &[Arriving], capacity: &Capacity) -> Replayed {
    let mut cost = |mix: &Mix| (0, Totals { seconds: 10.0 + f64::from(mix.tokens()), ..Totals::default() });
    replay(requests, capacity, &mut cost).unwrap()
}

fn times(replayed: &Replayed) -> Vec<(f64, f64)> {
    replayed.requests.iter().map(|answered| (answered.first_token, answered.last_token)).collect()
}

#[test]
fn a_request_alone_takes_its_prompt_and_its_decodes() {
    let replayed = run(&[request(0.0, 5, 4)], &CAPACITY);
    assert_eq!(times(&replayed), [(15.0, 15.0 + 3.0 * 11.0)]);
    let rows: Vec<_> = replayed.steps.iter().map(|step| (step.mix.decode, step.mix.prefill, step.mix.seqs)).collect();
    assert_eq!(rows, [(0, 5, 1), (1, 0, 1), (1, 0, 1), (1, 0, 1)]);
    let contexts: Vec<_> = replayed.steps.iter().map(|step| step.mix.decode_context).collect();
    assert_eq!(contexts, [0.0, 6.0, 7.0, 8.0]);
    let tokens: Vec<_> = replayed.steps.iter().map(|step| (step.num_prompt_tokens, step.num_output_tokens)).collect();
    assert_eq!(tokens, [(5, 1), (0, 1), (0, 1), (0, 1)]);
}

#[test]
fn prompts_are_cut_by_the_dense_batch() {
    let replayed = run(&[request(0.0, 20, 1)], &CAPACITY);
    assert_eq!(times(&replayed), [(18.0 + 18.0 + 14.0, 50.0)]);
    let prefill: Vec<_> =
        replayed.steps.iter().map(|step| (step.mix.prefill, step.mix.prefill_keys, step.mix.prefill_kept)).collect();
    // Rows 0 to 7 see 1 to 8 keys, the next ones 9 to 16, and the last four 17 to 20.
    assert_eq!(prefill, [(8, 4.5, 8.0), (8, 12.5, 16.0), (4, 18.5, 20.0)]);
    assert_eq!(replayed.steps.iter().map(|step| step.mix.seqs).collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn arrivals_wait_for_the_step_after_the_one_that_is_launched() {
    // The first decode of request 0 is launched while its prompt is read, from 0 to 12, so before request 1 arrives.
    let replayed = run(&[request(0.0, 2, 3), request(5.0, 3, 1), request(100.0, 1, 1)], &CAPACITY);
    // 0..12 reads the prompt, 12..23 decodes, 23..37 decodes beside the prompt of request 1.
    assert_eq!(times(&replayed), [(12.0, 37.0), (37.0, 37.0), (111.0, 111.0)]);
    assert_eq!(replayed.steps.last().map(|step| step.start), Some(100.0), "idle until the next arrival");
}

#[test]
fn preempted_sequences_read_their_prompts_again_and_count_once() {
    let capacity = Capacity { num_pages: 6, ..CAPACITY };
    let requests = [request(0.0, 7, 9), request(0.0, 7, 9)];
    let replayed = run(&requests, &capacity);
    assert!(replayed.requests[1].num_preemptions > 0, "six pages hold one sequence of 15 tokens, not two");
    assert_eq!(replayed.requests[0].num_preemptions, 0);
    let counted: (usize, usize) = replayed
        .steps
        .iter()
        .fold((0, 0), |sum, step| (sum.0 + step.num_prompt_tokens, sum.1 + step.num_output_tokens));
    assert_eq!(counted, (14, 18));
    let computed: u32 = replayed.steps.iter().map(|step| step.mix.tokens()).sum();
    assert!(computed > 7 * 2 + 8 * 2, "{computed}");
}

#[test]
fn steps_follow_each_other_and_never_exceed_the_batch() {
    let requests: Vec<_> =
        (0..40).map(|n| request(f64::from(n) * 9.0, 1 + (n as usize * 7) % 13, 1 + n as usize % 5)).collect();
    let replayed = run(&requests, &CAPACITY);
    assert!(replayed.steps.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(replayed.steps.iter().all(|step| (1..=8).contains(&step.mix.tokens())));
    for answered in &replayed.requests {
        assert!(answered.request.at < answered.first_token && answered.first_token <= answered.last_token);
    }
    assert_eq!(replayed, run(&requests, &CAPACITY), "the same requests, the same run");
}
