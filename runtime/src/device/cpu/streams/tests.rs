//! Streams and events: order within a stream, events as CUDA has them, and random programs against one after another.

use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::super::team::Split;
use super::*;
use crate::launch::Site;
use crate::trace::Label;

/// Cells of a vector; an item of a task is one cell.
const WIDTH: usize = 24;

/// Vectors that tasks read and write. Atomics, so that a race shows in the values and is not undefined.
type Vectors = Vec<Vec<AtomicU64>>;

fn vectors(count: usize) -> Vectors {
    (0..count).map(|v| (0..WIDTH).map(|i| AtomicU64::new((v * WIDTH + i) as u64)).collect()).collect()
}

fn values(vectors: &Vectors) -> Vec<u64> {
    vectors.iter().flatten().map(|cell| cell.load(Ordering::Relaxed)).collect()
}

/// `to[i] = mix(to[i], from[i], salt)` after a pause.
#[derive(Debug, Clone, Copy)]
struct Mix {
    stream: u16,
    from: usize,
    to: usize,
    salt: u64,
    pause: Duration,
    chunk: usize,
    panics: bool,
}

const MIX: Mix = Mix { stream: 0, from: 0, to: 1, salt: 7, pause: Duration::ZERO, chunk: 1, panics: false };

impl Task for Mix {
    type Context = Vectors;

    fn split(&self, _: &Vectors, _: usize) -> Split {
        Split { num_items: WIDTH, chunk: self.chunk }
    }

    fn run(&self, vectors: &Vectors, items: Range<usize>) {
        assert!(!self.panics, "planted");
        thread::sleep(self.pause);
        for i in items {
            let from = vectors[self.from][i].load(Ordering::Relaxed);
            let old = vectors[self.to][i].load(Ordering::Relaxed);
            let new = (old ^ from.rotate_left(17)).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.salt);
            vectors[self.to][i].store(new, Ordering::Relaxed);
        }
    }

    fn site(&self) -> Site {
        Site { stream: StreamId(self.stream), node: "mix", nano: 1, layer: Some(4), share: None }
    }

    fn label(&self) -> Label {
        Label { node: "mix", nano: 1, layer: Some(4), num_rows: 0, plan: "test", step: 1 }
    }
}

impl Mix {
    fn conflicts(&self, other: &Mix) -> bool {
        self.to == other.to || self.to == other.from || self.from == other.to
    }
}

fn streams(context: Arc<Vectors>, workers: &[usize]) -> Streams<Mix> {
    let mut streams = Streams::new(context, None);
    for (i, &num_workers) in workers.iter().enumerate() {
        streams.add(&format!("test-{i}"), num_workers).unwrap();
    }
    streams
}

fn synchronize(streams: &Streams<Mix>, count: u16) {
    (0..count).for_each(|stream| streams.synchronize(streams.mark(StreamId(stream))));
}

/// The values after running `program` one task after the other.
fn sequential(program: &[Mix]) -> Vec<u64> {
    let vectors = vectors(5);
    program.iter().for_each(|task| task.run(&vectors, 0..WIDTH));
    values(&vectors)
}

/// The values after running `program` on its streams, with a wait for each hazard between two of them.
fn side_by_side(program: &[Mix]) -> Vec<u64> {
    let vectors = Arc::new(vectors(5));
    let streams = streams(vectors.clone(), &[2, 1, 3]);
    let mut launched: Vec<(Mix, Mark)> = Vec::new();
    for task in program {
        for (before, mark) in &launched {
            if task.conflicts(before) {
                streams.wait(StreamId(task.stream), *mark);
            }
        }
        streams.launch(StreamId(task.stream), *task);
        launched.push((*task, streams.mark(StreamId(task.stream))));
    }
    synchronize(&streams, 3);
    values(&vectors)
}

fn any_task() -> impl Strategy<Value = Mix> {
    (0..3u16, 0..5usize, 0..5usize, any::<u64>(), 0..40u64, 1..WIDTH).prop_map(
        |(stream, from, to, salt, pause, chunk)| {
            // Most tasks do not pause, some long enough for the others to overtake them.
            let pause = Duration::from_micros(if pause < 36 { 0 } else { pause * 5 });
            Mix { stream, from, to, salt, pause, chunk, panics: false }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_ordered_program_gives_what_its_sequence_gives(program in prop::collection::vec(any_task(), 1..60)) {
        prop_assert_eq!(side_by_side(&program), sequential(&program));
    }
}

#[test]
fn every_item_runs_once() {
    let vectors = Arc::new(vectors(5));
    let streams = streams(vectors.clone(), &[3]);
    let program = vec![MIX; 3000];
    program.iter().for_each(|task| streams.launch(StreamId(0), *task));
    synchronize(&streams, 1);
    assert_eq!(values(&vectors), sequential(&program));
}

/// What stream 1 copies of a vector that stream 0 is slow to write, with or without a wait between them.
fn late_write(waits: bool) -> bool {
    let vectors = Arc::new(vectors(5));
    let streams = streams(vectors.clone(), &[1, 1]);
    let write = Mix { pause: Duration::from_millis(60), chunk: WIDTH, ..MIX };
    let read = Mix { stream: 1, from: 1, to: 2, ..MIX };
    streams.launch(StreamId(0), write);
    // Long enough for the write to have begun, should anything hold the reader back.
    thread::sleep(Duration::from_millis(20));
    let event = Event::default();
    event.set(streams.mark(StreamId(0)));
    if waits {
        streams.wait(StreamId(1), event.mark());
    }
    streams.launch(StreamId(1), read);
    synchronize(&streams, 2);
    values(&vectors) == sequential(&[write, read])
}

#[test]
fn a_missing_wait_is_a_race_that_shows() {
    assert!(late_write(true));
    assert!(!late_write(false), "something other than the wait orders the streams");
}

#[test]
fn a_wait_means_the_record_before_it() {
    let vectors = Arc::new(vectors(5));
    let streams = streams(vectors.clone(), &[1, 1]);
    let event = Event::default();
    event.set(streams.mark(StreamId(0)));
    let early = event.mark();
    streams.launch(StreamId(0), Mix { pause: Duration::from_millis(200), ..MIX });
    event.set(streams.mark(StreamId(0)));
    streams.wait(StreamId(1), early);
    streams.launch(StreamId(1), Mix { stream: 1, from: 2, to: 3, ..MIX });
    let start = Instant::now();
    streams.synchronize(streams.mark(StreamId(1)));
    assert!(start.elapsed() < Duration::from_millis(150), "the wait meant a later record");
}

#[test]
fn an_event_never_recorded_passes_at_once() {
    let streams = streams(Arc::new(vectors(5)), &[1, 1]);
    streams.launch(StreamId(0), Mix { pause: Duration::from_millis(200), ..MIX });
    streams.wait(StreamId(1), Event::default().mark());
    let start = Instant::now();
    streams.synchronize(streams.mark(StreamId(1)));
    assert!(start.elapsed() < Duration::from_millis(150));
}

#[test]
fn a_panic_becomes_a_fault_and_nothing_hangs() {
    for chunk in [1, WIDTH] {
        let vectors = Arc::new(vectors(5));
        let before = values(&vectors);
        let streams = streams(vectors.clone(), &[2, 1]);
        streams.launch(StreamId(0), Mix { panics: true, chunk, ..MIX });
        let mark = streams.mark(StreamId(0));
        streams.wait(StreamId(1), mark);
        streams.launch(StreamId(1), Mix { stream: 1, ..MIX });
        streams.launch(StreamId(0), MIX);
        synchronize(&streams, 2);
        let fault = streams.faults().first().unwrap();
        assert_eq!((fault.site.as_str(), fault.what.as_str()), ("layer 4: mix#1 (stream 0)", "planted"));
        assert_eq!(values(&vectors), before, "a launch ran after the fault");
    }
}

#[test]
fn dropping_streams_that_wait_for_each_other_ends() {
    let streams = streams(Arc::new(vectors(5)), &[2, 1, 1]);
    for round in 0..50u16 {
        let (one, other) = (round % 3, (round + 1) % 3);
        streams.launch(StreamId(one), Mix { stream: one, pause: Duration::from_millis(1), ..MIX });
        streams.wait(StreamId(other), streams.mark(StreamId(one)));
    }
    drop(streams);
}

#[test]
fn dropping_a_stream_that_waits_for_what_will_never_run_ends() {
    let streams = streams(Arc::new(vectors(5)), &[1, 1]);
    let slow = Mix { pause: Duration::from_millis(40), chunk: WIDTH, ..MIX };
    (0..3).for_each(|_| streams.launch(StreamId(0), slow));
    streams.wait(StreamId(1), streams.mark(StreamId(0)));
    thread::sleep(Duration::from_millis(10));
    drop(streams);
}

#[test]
fn an_idle_device_uses_no_processor_time() {
    let streams = streams(Arc::new(vectors(5)), &[2, 2]);
    streams.launch(StreamId(0), MIX);
    synchronize(&streams, 2);
    let names = ["test-0-0", "test-0-1", "test-1-0", "test-1-1"];
    thread::sleep(Duration::from_millis(50));
    let before = processor_ticks(&names);
    thread::sleep(Duration::from_millis(400));
    assert!(processor_ticks(&names) - before <= 1, "idle threads burn processor time");
}

/// Clock ticks (of 10 ms) used by this process's threads of these names; 0 where the system does not tell.
fn processor_ticks(names: &[&str]) -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let stats = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| ticks_of(&stat, names)).sum()
}

fn ticks_of(stat: &str, names: &[&str]) -> Option<u64> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let field = |i: usize| rest.split(' ').nth(i)?.parse::<u64>().ok();
    names.contains(&name).then(|| Some(field(11)? + field(12)?)).flatten()
}
