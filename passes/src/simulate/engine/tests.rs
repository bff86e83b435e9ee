//! Runs small enough to be worked out by hand, and what holds of every run.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::profile::{Compute, ElementBytes, Memory, Network, Oversubscribed, Slowdown, Speed};

/// 100 bytes per second of memory, 10 one way over the network, and a launch of memory that is faster than its share.
fn profile() -> Profile {
    Profile {
        name: "tiny".to_owned(),
        about: String::new(),
        memory: Memory { bytes: 1e6, bandwidth: 100.0 },
        compute: Compute { flops: 1e3, units: 1, tile: None, split_seconds: 0.0 },
        network: Some(Network { bandwidth: 20.0 }),
        bytes: ElementBytes { weights: 2, activations: 2, kv: 2 },
        cut_rows: 1,
        kernels: BTreeMap::new(),
        sharing: BTreeMap::from([(ResourceKey::Memory, Speed::new(vec![(0.5, 0.8)]))]),
        slowdown: Vec::new(),
        oversubscribed: Oversubscribed::Slows,
    }
}

fn task(stream: usize, resource: ResourceKey, share: f64, seconds: f64) -> Task {
    Task { stream, resource, share, load: Load { seconds, ..Load::default() }, after: Vec::new() }
}

fn compute(stream: usize, share: f64, seconds: f64) -> Task {
    task(stream, ResourceKey::Compute, share, seconds)
}

fn memory(stream: usize, share: f64, seconds: f64) -> Task {
    task(stream, ResourceKey::Memory, share, seconds)
}

fn spans(profile: &Profile, tasks: &[Task]) -> Vec<(f64, f64)> {
    run(profile, tasks, false).spans.iter().map(|span| (span.start, span.end)).collect()
}

fn is_close(found: &[(f64, f64)], wanted: &[(f64, f64)]) {
    let same = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let all = found.iter().zip(wanted).all(|(a, b)| same(a.0, b.0) && same(a.1, b.1));
    assert!(all && found.len() == wanted.len(), "{found:?} is not {wanted:?}");
}

#[test]
fn tasks_of_a_stream_run_one_after_another() {
    let tasks = [compute(0, 1.0, 1.0), memory(0, 1.0, 2.0), compute(0, 0.5, 1.0)];
    // The last one has half the device even alone.
    is_close(&spans(&profile(), &tasks), &[(0.0, 1.0), (1.0, 3.0), (3.0, 5.0)]);
}

#[test]
fn streams_run_side_by_side_at_the_speeds_of_their_shares() {
    let tasks = [compute(0, 0.5, 2.0), memory(1, 0.5, 4.0)];
    // The product at 0.5 for 4 s, and memory at 0.8 for 5 s: its share does not grow when the other ends.
    is_close(&spans(&profile(), &tasks), &[(0.0, 4.0), (0.0, 5.0)]);
}

#[test]
fn shares_over_the_whole_device_are_scaled_down() {
    let tasks = [compute(0, 1.0, 2.0), memory(1, 1.0, 4.0)];
    // Half the device each: 4 s at 0.5, while memory does 3.2 of 4 s; the rest alone at full speed.
    is_close(&spans(&profile(), &tasks), &[(0.0, 4.0), (0.0, 4.8)]);
}

#[test]
fn slowdowns_of_all_others_multiply() {
    let beside = Slowdown { of: ResourceKey::Compute, beside: ResourceKey::Memory, points: vec![(0.25, 2.0)] };
    let profile = Profile { slowdown: vec![beside], ..profile() };
    let tasks = [compute(0, 0.5, 1.0), memory(1, 0.25, 100.0), memory(2, 0.25, 100.0)];
    is_close(&spans(&profile, &tasks)[..1], &[(0.0, 8.0)]);
}

#[test]
fn bandwidth_is_divided_fairly() {
    let reader =
        |stream, bytes| Task { load: Load { bytes, seconds: 1.0, ..Load::default() }, ..memory(stream, 0.5, 1.0) };
    // At 0.8 of their speed they want 16 and 96 of 100 bytes per second: the modest one gets all it wants.
    let tasks = [reader(0, 20.0), reader(1, 120.0)];
    let run = run(&profile(), &tasks, true);
    assert_eq!(run.pieces[0].running, [(0, 0.8), (1, 0.8 * 84.0 / 96.0)]);
    // Alone again, 120 bytes per second at 0.8 of the speed are within the bandwidth.
    let first = 1.0 / 0.8;
    is_close(&[(run.spans[1].start, run.end)], &[(0.0, first + (1.0 - 0.7 * first) / 0.8)]);
}

#[test]
fn the_network_is_divided_too() {
    let sender = |stream| Task {
        load: Load { network: 10.0, seconds: 1.0, ..Load::default() },
        share: 1.0,
        ..task(stream, ResourceKey::Network, 1.0, 1.0)
    };
    let profile =
        Profile { sharing: BTreeMap::from([(ResourceKey::Network, Speed::new(vec![(0.5, 0.9)]))]), ..profile() };
    is_close(&spans(&profile, &[sender(0), sender(1)]), &[(0.0, 2.0), (0.0, 2.0)]);
}

#[test]
fn tasks_wait_for_those_of_other_streams() {
    let waiting = Task { after: vec![0], ..memory(1, 0.5, 0.8) };
    let last = Task { after: vec![2], ..compute(0, 0.5, 1.0) };
    let tasks = [compute(0, 0.5, 1.0), compute(0, 0.5, 0.25), waiting, last];
    is_close(&spans(&profile(), &tasks), &[(0.0, 2.0), (2.0, 2.5), (2.0, 3.0), (3.0, 5.0)]);
}

#[test]
fn tasks_that_take_no_time_hold_nobody_up() {
    let join = Task { after: vec![0, 1], ..compute(1, 1.0, 0.0) };
    let after_join = Task { after: vec![2], ..compute(0, 1.0, 1.0) };
    let tasks = [compute(0, 1.0, 0.0), compute(1, 1.0, f64::NAN), join, after_join, compute(1, 1.0, -1.0)];
    is_close(&spans(&profile(), &tasks), &[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 1.0), (0.0, 0.0)]);
    assert_eq!(run(&profile(), &[], true), Run::default());
}

/// Tasks of three streams with waits for earlier ones, none of which alone wants more than a bandwidth.
fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
    let one = (0..3usize, 0..3usize, 0.05..1.0f64, 0.0..2.0f64, 0.0..1.0f64, prop::collection::vec(any::<u16>(), 0..3));
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let build = |(number, (stream, resource, share, seconds, use_of, after)): (
            usize,
            (_, usize, _, f64, f64, Vec<u16>),
        )| {
            let resource = [ResourceKey::Compute, ResourceKey::Memory, ResourceKey::Network][resource];
            let load = Load {
                flops: 0.0,
                bytes: 100.0 * use_of * seconds,
                network: 10.0 * use_of * seconds,
                seconds,
                ..Load::default()
            };
            let after = if number == 0 { vec![] } else { after.iter().map(|a| usize::from(*a) % number).collect() };
            Task { stream, resource, share, load, after }
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #[test]
    fn every_run_keeps_the_order_and_does_all_the_work(tasks in any_tasks()) {
        let run = run(&profile(), &tasks, true);
        let mut last_of_stream = [0.0; 3];
        for (task, span) in tasks.iter().zip(&run.spans) {
            prop_assert!(task.after.iter().all(|earlier| run.spans[*earlier].end <= span.start));
            prop_assert!(last_of_stream[task.stream] <= span.start);
            last_of_stream[task.stream] = span.end;
        }
        for (number, task) in tasks.iter().enumerate() {
            let work = |piece: &Piece| {
                let speed = piece.running.iter().find(|(running, _)| *running == number).map_or(0.0, |(_, speed)| *speed);
                (piece.end - piece.start) * speed
            };
            let done: f64 = run.pieces.iter().map(work).sum();
            prop_assert!((done - task.load.seconds).abs() < 1e-9, "task {number} does {done}");
        }
        let joined = run.pieces.windows(2).all(|pair| pair[0].end == pair[1].start);
        prop_assert!(joined && run.pieces.last().is_none_or(|piece| piece.end == run.end));
    }

    #[test]
    fn no_stretch_uses_more_than_the_bandwidths(tasks in any_tasks()) {
        for piece in run(&profile(), &tasks, true).pieces {
            let used = |amount: fn(&Load) -> f64| -> f64 {
                piece.running.iter().map(|(task, speed)| amount(&tasks[*task].load) / tasks[*task].load.seconds * speed).sum()
            };
            prop_assert!(used(|load| load.bytes) <= 100.0 * (1.0 + 1e-9));
            prop_assert!(used(|load| load.network) <= 10.0 * (1.0 + 1e-9));
        }
    }

    /// Nothing is faster than alone; and on whole-device shares, which are never faster together than one after another
    /// without need, the device is never idle: all speeds together are at least 1.
    #[test]
    fn the_end_lies_between_the_longest_stream_and_the_sum(tasks in any_tasks()) {
        let tasks: Vec<Task> = tasks.into_iter().map(|task| Task { share: 1.0, ..task }).collect();
        let end = run(&profile(), &tasks, false).end;
        let seconds = |tasks: &mut dyn Iterator<Item = &Task>| tasks.map(|task| task.load.seconds).sum::<f64>();
        for stream in 0..3 {
            prop_assert!(end >= seconds(&mut tasks.iter().filter(|task| task.stream == stream)) - 1e-9);
        }
        prop_assert!(end <= seconds(&mut tasks.iter()) + 1e-9);
    }
}
