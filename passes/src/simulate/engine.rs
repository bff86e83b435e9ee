//! Discrete-event execution of tasks on streams.
//!
//! A stream runs its tasks one after another; a task starts when its stream is free and all tasks it comes after have
//! ended. Between two events the set of running tasks is constant, and so are their speeds ([`super::speeds`]); the
//! next event is the end of the task that has the least time left.
//!
//! Every event ends a task, so a run has at most as many events as tasks. It cannot get stuck: of the tasks that have
//! not ended the first one given waits for none, as it comes after earlier ones only.

use crate::cost::Load;
use crate::profile::{Oversubscribed, Profile, ResourceKey};

use super::speeds::{self, Running};

/// A launch to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The stream it is put on; streams are numbered from 0.
    pub stream: usize,
    /// The resource that bounds it.
    pub resource: ResourceKey,
    /// Its part of the device, in (0, 1].
    pub share: f64,
    /// What it costs. A task that takes no seconds ends as it starts.
    pub load: Load,
    /// Tasks that end before it starts, by number; all earlier than itself.
    pub after: Vec<usize>,
}

/// When a task ran, in seconds from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// Its start.
    pub start: f64,
    /// Its end.
    pub end: f64,
}

/// A stretch of time in which the same tasks run at the same speeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its start, in seconds.
    pub start: f64,
    /// Its end.
    pub end: f64,
    /// The running tasks, by number, and the speed of each: 1 for that of a task alone on the whole device.
    pub running: Vec<(usize, f64)>,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// When each task ran, by its number.
    pub spans: Vec<Span>,
    /// All of the run's time in order, where it was asked for.
    pub pieces: Vec<Piece>,
    /// The end of the last task, in seconds.
    pub end: f64,
}

/// Runs the tasks of every stream in the order given.
pub fn run(profile: &Profile, tasks: &[Task], keep_pieces: bool) -> Run {
    let mut engine = Engine::new(profile, tasks);
    let mut pieces = Vec::new();
    engine.start_ready();
    while !engine.running.is_empty() {
        let start = engine.now;
        engine.step();
        if keep_pieces {
            let running = engine.running.iter().map(|running| (running.task, running.speed)).collect();
            pieces.push(Piece { start, end: engine.now, running });
        }
        engine.end_finished();
        engine.start_ready();
    }
    Run { spans: engine.spans, pieces, end: engine.now }
}

struct Engine<'a> {
    profile: &'a Profile,
    tasks: &'a [Task],
    /// The tasks by stream, each stream's in its order.
    queues: Vec<Vec<usize>>,
    /// How many tasks of each stream have started.
    started: Vec<usize>,
    busy: Vec<bool>,
    ended: Vec<bool>,
    running: Vec<Running>,
    spans: Vec<Span>,
    now: f64,
}

impl<'a> Engine<'a> {
    fn new(profile: &'a Profile, tasks: &'a [Task]) -> Self {
        let num_streams = tasks.iter().map(|task| task.stream + 1).max().unwrap_or(0);
        let mut queues = vec![Vec::new(); num_streams];
        for (number, task) in tasks.iter().enumerate() {
            queues[task.stream].push(number);
        }
        Self {
            profile,
            tasks,
            queues,
            started: vec![0; num_streams],
            busy: vec![false; num_streams],
            ended: vec![false; tasks.len()],
            running: Vec::with_capacity(num_streams),
            spans: vec![Span::default(); tasks.len()],
            now: 0.0,
        }
    }

    /// Starts all that can start: from the first stream again where a task has ended at once, which lets others start.
    fn start_ready(&mut self) {
        while (0..self.queues.len()).any(|stream| self.start_on(stream)) {}
    }

    /// Starts the next tasks of a stream up to one that takes time. Tells whether any has ended already.
    fn start_on(&mut self, stream: usize) -> bool {
        let mut has_ended_any = false;
        while let Some(task) = self.ready_on(stream) {
            self.started[stream] += 1;
            let seconds = seconds(&self.tasks[task]);
            self.spans[task] = Span { start: self.now, end: self.now };
            if seconds > 0.0 {
                self.busy[stream] = true;
                self.running.push(Running { task, seconds_left: seconds, speed: 1.0, share: 0.0 });
            } else {
                self.ended[task] = true;
                has_ended_any = true;
            }
        }
        has_ended_any
    }

    fn ready_on(&self, stream: usize) -> Option<usize> {
        let task = *self.queues[stream].get(self.started[stream])?;
        let waits = |&earlier: &usize| earlier < task && !self.ended[earlier];
        let is_ready = !self.busy[stream] && !self.tasks[task].after.iter().any(waits);
        (is_ready && self.has_room(task)).then_some(task)
    }

    /// Whether the units that a task asks for are free, on devices that divide their units.
    fn has_room(&self, task: usize) -> bool {
        let own = &self.tasks[task];
        let yields = |task: &Task| task.resource == ResourceKey::Compute;
        let running = self.running.iter().map(|running| &self.tasks[running.task]);
        match self.profile.oversubscribed {
            Oversubscribed::Slows => true,
            Oversubscribed::Waits => self.running.is_empty() || taken(running) + own.share <= ROOM,
            Oversubscribed::Yields => {
                let kept = taken(running.filter(|task| !yields(task)));
                yields(own) || kept == 0.0 || kept + own.share <= ROOM
            }
        }
    }

    /// Goes on to the next end of a task.
    fn step(&mut self) {
        speeds::assign(self.profile, self.tasks, &mut self.running);
        let until_end = |running: &Running| running.seconds_left / running.speed;
        let step = self.running.iter().map(until_end).fold(f64::INFINITY, f64::min);
        for running in &mut self.running {
            // What is left by rounding alone is nothing; the task that gave the step is among these.
            let is_over = until_end(running) <= step * (1.0 + 1e-12);
            running.seconds_left = if is_over { 0.0 } else { running.seconds_left - step * running.speed };
        }
        self.now += step;
    }

    fn end_finished(&mut self) {
        let Self { running, tasks, busy, ended, spans, now, .. } = self;
        running.retain(|Running { task, seconds_left, .. }| {
            if *seconds_left > 0.0 {
                return true;
            }
            (busy[tasks[*task].stream], ended[*task]) = (false, true);
            spans[*task].end = *now;
            false
        });
    }
}

/// All units, and a little for rounding.
const ROOM: f64 = 1.0 + 1e-6;

fn taken<'a>(tasks: impl Iterator<Item = &'a Task>) -> f64 {
    tasks.map(|task| task.share).sum()
}

/// Seconds at full speed; none where the cost model has no number.
pub(super) fn seconds(task: &Task) -> f64 {
    let seconds = task.load.seconds;
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
