//! The worker threads of one stream sharing one task: work items are claimed one chunk at a time, so a thread that a
//! noisy neighbour holds up delays only the chunk in its hands.
//!
//! The leader publishes a task and waits until its last chunk is done; claiming is one compare-and-swap. A chunk is
//! claimed *before* the task is read: while a claimed chunk is unfinished the leader cannot replace the task, so the
//! lock around it is never contended and serves only to prove to the compiler what the protocol ensures.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::bell::Bell;
use super::fault::Faults;
use crate::launch::Site;
use crate::trace::Label;

/// Work that a stream runs.
pub(super) trait Task: Send + Sync + 'static {
    /// What all tasks of a device share: its memory.
    type Context: Send + Sync + 'static;

    /// How the work divides among `num_workers` threads.
    fn split(&self, context: &Self::Context, num_workers: usize) -> Split;
    /// Does the work items in `items`. Called once for each item, from any worker, in any order.
    fn run(&self, context: &Self::Context, items: Range<usize>);
    /// Where it stands in the schedule.
    fn site(&self) -> Site;
    /// What a trace says of it.
    fn label(&self) -> Label;
}

/// How a task divides into chunks of work items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Work items in all.
    pub(super) num_items: usize,
    /// Items a worker claims at a time, at least 1.
    pub(super) chunk: usize,
}

impl Split {
    /// All items in one chunk: the leader does them alone.
    pub(super) fn whole(num_items: usize) -> Self {
        Self { num_items, chunk: num_items.max(1) }
    }

    /// At most `num_chunks` chunks of equal size.
    pub(super) fn into(num_items: usize, num_chunks: usize) -> Self {
        Self { num_items, chunk: num_items.div_ceil(num_chunks.max(1)).max(1) }
    }

    pub(super) fn num_chunks(self) -> usize {
        self.num_items.div_ceil(self.chunk)
    }

    fn items(self, chunk: usize) -> Range<usize> {
        chunk * self.chunk..((chunk + 1) * self.chunk).min(self.num_items)
    }
}

/// The workers of one stream and the task they share.
pub(super) struct Team<T: Task> {
    context: Arc<T::Context>,
    faults: Arc<Faults>,
    num_workers: usize,
    shared: RwLock<Option<(T, Split)>>,
    unclaimed: AtomicUsize,
    unfinished: AtomicUsize,
    closing: AtomicBool,
    published: Bell,
    finished: Bell,
}

impl<T: Task> Team<T> {
    pub(super) fn new(context: Arc<T::Context>, faults: Arc<Faults>, num_workers: usize) -> Self {
        Self {
            context,
            faults,
            num_workers,
            shared: RwLock::new(None),
            unclaimed: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            published: Bell::default(),
            finished: Bell::default(),
        }
    }

    /// Leader: runs a task to its end, with the others' help where it divides into more than one chunk.
    pub(super) fn run(&self, task: T) {
        let Some(split) = self.split(&task) else { return };
        let num_chunks = split.num_chunks();
        if num_chunks <= 1 || self.num_workers == 1 {
            return self.run_items(&task, 0..split.num_items);
        }
        self.share(Some((task, split)));
        self.unfinished.store(num_chunks, Ordering::Relaxed);
        self.unclaimed.store(num_chunks, Ordering::Release);
        self.published.ring();
        self.claim_all();
        self.finished.wait_until(|| self.unfinished.load(Ordering::Acquire) == 0);
        self.share(None);
    }

    /// Follower: helps with every task until the team is closed.
    pub(super) fn follow(&self) {
        let closing = || self.closing.load(Ordering::Acquire);
        while !closing() {
            self.published.wait_until(|| self.unclaimed.load(Ordering::Acquire) > 0 || closing());
            self.claim_all();
        }
    }

    /// Lets the followers go.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.published.ring();
    }

    fn share(&self, task: Option<(T, Split)>) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// `None` when the task itself cannot say, which is a fault like any other.
    fn split(&self, task: &T) -> Option<Split> {
        self.guarded(task, || task.split(&self.context, self.num_workers))
    }

    fn claim_all(&self) {
        let claim = |left: usize| left.checked_sub(1);
        while let Ok(left) = self.unclaimed.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim) {
            self.run_chunk(left);
            if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.finished.ring();
            }
        }
    }

    /// Runs the chunk that was claimed when `left` chunks were unclaimed. Chunks are counted from the first item on,
    /// so that memory is read in order.
    fn run_chunk(&self, left: usize) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((task, split)) = &*shared {
            self.run_items(task, split.items(split.num_chunks() - left));
        }
    }

    fn run_items(&self, task: &T, items: Range<usize>) {
        if !items.is_empty() {
            self.guarded(task, || task.run(&self.context, items));
        }
    }

    /// A panic becomes the device's fault; after a fault nothing runs.
    fn guarded<R>(&self, task: &T, work: impl FnOnce() -> R) -> Option<R> {
        if self.faults.is_faulted() {
            return None;
        }
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| self.faults.report(task.site(), &*panic)).ok()
    }
}
