//! Streams: ordered queues of tasks, each served by its own threads.
//!
//! Every entry of a stream has a number, counted from 1; the stream publishes the number of the last entry it has
//! passed. That is all an event needs: recording one notes the stream and the number of its newest entry, and a wait
//! is an entry that lets its stream go on once the noted stream has passed the noted number. Nothing else orders
//! streams, so a wait that is missing is a race, here as on a GPU.
//!
//! A queue keeps its storage: once it has held two steps, launching allocates nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::bell::{Bell, lock};
use super::fault::Faults;
use super::team::{Task, Team};
use crate::launch::StreamId;
use crate::trace::{LaneId, Trace};

/// Entries a queue has room for before it first grows.
const QUEUE_ROOM: usize = 1024;

/// A place in a stream's order: all entries up to and including this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    stream: u16,
    entry: u64,
}

impl Mark {
    /// Bits for the entry's number; the rest are the stream's.
    const ENTRY_BITS: u32 = 48;

    fn pack(self) -> u64 {
        u64::from(self.stream) << Self::ENTRY_BITS | self.entry
    }

    fn unpack(bits: u64) -> Self {
        Self { stream: (bits >> Self::ENTRY_BITS) as u16, entry: bits & ((1 << Self::ENTRY_BITS) - 1) }
    }
}

/// An event: the mark of its latest record. Entry 0, which every stream has passed, before the first.
#[derive(Debug, Default)]
pub(super) struct Event(AtomicU64);

impl Event {
    pub(super) fn set(&self, mark: Mark) {
        self.0.store(mark.pack(), Ordering::Release);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark::unpack(self.0.load(Ordering::Acquire))
    }
}

enum Entry<T> {
    Run(T),
    Wait(Arc<Progress>, u64),
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Progress {
    passed: AtomicU64,
    bell: Bell,
}

impl Progress {
    fn has_passed(&self, entry: u64) -> bool {
        self.passed.load(Ordering::Acquire) >= entry
    }

    /// Never falls back: a closing device has passed everything.
    fn pass(&self, entry: u64) {
        self.passed.fetch_max(entry, Ordering::AcqRel);
        self.bell.ring();
    }
}

struct Queue<T> {
    entries: Mutex<VecDeque<Entry<T>>>,
    newest: AtomicU64,
    filled: Bell,
    closing: AtomicBool,
    progress: Arc<Progress>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            entries: Mutex::new(VecDeque::with_capacity(QUEUE_ROOM)),
            newest: AtomicU64::new(0),
            filled: Bell::default(),
            closing: AtomicBool::new(false),
            progress: Arc::default(),
        }
    }

    fn push(&self, entry: Entry<T>) {
        let mut entries = lock(&self.entries);
        entries.push_back(entry);
        // Under the lock, so that numbers follow the order of the queue.
        self.newest.fetch_add(1, Ordering::Release);
        drop(entries);
        self.filled.ring();
    }

    /// The entry after `passed`; `None` when the queue is closed.
    fn next(&self, passed: u64) -> Option<Entry<T>> {
        self.filled.wait_until(|| self.newest.load(Ordering::Acquire) > passed || self.is_closing());
        if self.is_closing() { None } else { lock(&self.entries).pop_front() }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

struct Stream<T: Task> {
    queue: Arc<Queue<T>>,
    team: Arc<Team<T>>,
    threads: Vec<JoinHandle<()>>,
}

/// The streams of a device.
pub(super) struct Streams<T: Task> {
    context: Arc<T::Context>,
    faults: Arc<Faults>,
    trace: Option<Arc<Trace>>,
    streams: Vec<Stream<T>>,
}

impl<T: Task> Streams<T> {
    pub(super) fn new(context: Arc<T::Context>, trace: Option<Arc<Trace>>) -> Self {
        Self { context, faults: Arc::default(), trace, streams: Vec::new() }
    }

    /// Starts a stream with `num_workers` threads (at least one), named `name-0` and on.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn add(&mut self, name: &str, num_workers: usize) -> std::io::Result<StreamId> {
        let num_workers = num_workers.max(1);
        let queue = Arc::new(Queue::new());
        let team = Arc::new(Team::new(self.context.clone(), self.faults.clone(), num_workers));
        let id = StreamId(self.streams.len() as u16);
        // Pushed before its threads exist, so that a refusal leaves no thread behind: dropping `self` joins them.
        self.streams.push(Stream { queue: queue.clone(), team: team.clone(), threads: Vec::new() });
        let lane = self.trace.clone().map(|trace| (trace.lane(name), trace));
        let leader = Leader { queue, team: team.clone(), lane };
        self.spawn(format!("{name}-0"), move || leader.lead())?;
        for worker in 1..num_workers {
            let team = team.clone();
            self.spawn(format!("{name}-{worker}"), move || team.follow())?;
        }
        Ok(id)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = thread::Builder::new().name(name).spawn(body)?;
        if let Some(stream) = self.streams.last_mut() {
            stream.threads.push(thread);
        }
        Ok(())
    }

    pub(super) fn launch(&self, stream: StreamId, task: T) {
        self.stream(stream).queue.push(Entry::Run(task));
    }

    /// The mark of the newest entry of `stream`.
    pub(super) fn mark(&self, stream: StreamId) -> Mark {
        Mark { stream: stream.0, entry: self.stream(stream).queue.newest.load(Ordering::Acquire) }
    }

    /// Makes `stream` wait until the marked stream has passed `mark`.
    pub(super) fn wait(&self, stream: StreamId, mark: Mark) {
        let progress = &self.stream(StreamId(mark.stream)).queue.progress;
        if mark.stream != stream.0 && !progress.has_passed(mark.entry) {
            self.stream(stream).queue.push(Entry::Wait(progress.clone(), mark.entry));
        }
    }

    /// Blocks the caller until `mark` has been passed.
    pub(super) fn synchronize(&self, mark: Mark) {
        let progress = &self.stream(StreamId(mark.stream)).queue.progress;
        progress.bell.wait_until(|| progress.has_passed(mark.entry));
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Ids are given out by [`Streams::add`] alone, so the index is in range.
    fn stream(&self, id: StreamId) -> &Stream<T> {
        &self.streams[usize::from(id.0)]
    }
}

impl<T: Task> Drop for Streams<T> {
    /// Tasks that have not begun are dropped, the running ones come to their end.
    fn drop(&mut self) {
        for stream in &self.streams {
            stream.queue.closing.store(true, Ordering::Release);
            stream.queue.filled.ring();
            stream.team.close();
        }
        for stream in &self.streams {
            // Others may wait for entries that will never run.
            stream.queue.progress.pass(u64::MAX);
        }
        for thread in self.streams.iter_mut().flat_map(|stream| stream.threads.drain(..)) {
            // A thread's own panics were caught and reported where they happened.
            let _ = thread.join();
        }
    }
}

struct Leader<T: Task> {
    queue: Arc<Queue<T>>,
    team: Arc<Team<T>>,
    lane: Option<(LaneId, Arc<Trace>)>,
}

impl<T: Task> Leader<T> {
    fn lead(self) {
        let mut passed = 0;
        while let Some(entry) = self.queue.next(passed) {
            match entry {
                Entry::Run(task) => self.run(task),
                Entry::Wait(progress, entry) => self.wait(&progress, entry),
            }
            passed += 1;
            self.queue.progress.pass(passed);
        }
    }

    fn run(&self, task: T) {
        let Some((lane, trace)) = &self.lane else { return self.team.run(task) };
        let (label, start) = (task.label(), Instant::now());
        self.team.run(task);
        trace.slice(*lane, label, start, Instant::now());
    }

    fn wait(&self, progress: &Progress, entry: u64) {
        let start = Instant::now();
        progress.bell.wait_until(|| progress.has_passed(entry));
        if let Some((lane, trace)) = &self.lane {
            trace.wait(*lane, start, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
