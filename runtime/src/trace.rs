//! What ran when, on which stream: a recorder for launches, its Chrome/Perfetto file and its summary.
//!
//! A device that was given a [`Trace`] adds a slice per launch and per wait; one that was not does nothing at all.
//! Memory is bounded: slices past the capacity are counted and left out. Open the file at <https://ui.perfetto.dev>;
//! the format is the Trace Event Format's JSON object form, times in microseconds.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A stream's lane in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneId(usize);

/// What is shown of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The node of the graph.
    pub node: &'static str,
    /// The nano-batch, counted from 0.
    pub nano: u8,
    /// The layer, `None` outside the layers.
    pub layer: Option<u16>,
    /// Rows it works on.
    pub num_rows: u32,
    /// The plan the step runs by.
    pub plan: &'static str,
    /// The step, counted from 1.
    pub step: u64,
}

/// A recorder of launches.
#[derive(Debug)]
pub struct Trace {
    origin: Instant,
    capacity: usize,
    num_slices: AtomicUsize,
    num_dropped: AtomicU64,
    lanes: Mutex<Vec<Lane>>,
}

#[derive(Debug)]
struct Lane {
    name: String,
    slices: Vec<Slice>,
}

/// A stretch of time of one stream, in nanoseconds from the trace's start; a wait when it has no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    label: Option<Label>,
    start: u64,
    end: u64,
}

/// How busy the streams were, waits not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Each stream's name and the time in which it ran launches.
    pub busy: Vec<(String, Duration)>,
    /// Time in which at least one stream ran launches.
    pub any: Duration,
    /// Time in which two or more streams did: what overlapping won.
    pub overlap: Duration,
    /// Slices left out because the trace was full.
    pub num_dropped: u64,
}

impl Trace {
    /// A recorder of at most `capacity` slices (of 64 bytes each).
    pub fn new(capacity: usize) -> Self {
        Self {
            origin: Instant::now(),
            capacity,
            num_slices: AtomicUsize::new(0),
            num_dropped: AtomicU64::new(0),
            lanes: Mutex::default(),
        }
    }

    /// Adds a stream.
    pub fn lane(&self, name: &str) -> LaneId {
        let mut lanes = self.lanes();
        lanes.push(Lane { name: name.to_owned(), slices: Vec::new() });
        LaneId(lanes.len() - 1)
    }

    /// Adds a launch that ran from `start` to `end`.
    pub fn slice(&self, lane: LaneId, label: Label, start: Instant, end: Instant) {
        self.push(lane, Some(label), start, end);
    }

    /// Adds a wait for an event.
    pub fn wait(&self, lane: LaneId, start: Instant, end: Instant) {
        self.push(lane, None, start, end);
    }

    fn push(&self, lane: LaneId, label: Option<Label>, start: Instant, end: Instant) {
        if self.num_slices.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.num_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let nanos = |at: Instant| at.saturating_duration_since(self.origin).as_nanos() as u64;
        let slice = Slice { label, start: nanos(start), end: nanos(end) };
        if let Some(lane) = self.lanes().get_mut(lane.0) {
            lane.slices.push(slice);
        }
    }

    /// Writes the trace in the Trace Event Format.
    ///
    /// # Errors
    /// `out` does not take it.
    pub fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        let lanes = self.lanes();
        write!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}", process_name())?;
        for (tid, lane) in lanes.iter().enumerate() {
            write!(out, ",\n{},\n{}", lane_name(tid, &lane.name), lane_place(tid))?;
            for slice in &lane.slices {
                write!(out, ",\n{}", slice_event(tid, slice))?;
            }
        }
        let num_dropped = self.num_dropped.load(Ordering::Relaxed);
        writeln!(out, "\n],\"otherData\":{{\"slices_left_out\":{num_dropped}}}}}")?;
        out.flush()
    }

    /// How busy each stream was, and how long they worked side by side.
    pub fn summary(&self) -> Summary {
        let lanes = self.lanes();
        let launches = |lane: &Lane| lane.slices.iter().filter(|slice| slice.label.is_some()).copied().collect();
        let launches: Vec<Vec<Slice>> = lanes.iter().map(launches).collect();
        let busy = |slices: &[Slice]| Duration::from_nanos(slices.iter().map(|slice| slice.end - slice.start).sum());
        let [any, overlap] = time_with_busy_streams(&launches.concat());
        Summary {
            busy: lanes.iter().zip(&launches).map(|(lane, slices)| (lane.name.clone(), busy(slices))).collect(),
            any,
            overlap,
            num_dropped: self.num_dropped.load(Ordering::Relaxed),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time in which at least one, and in which at least two slices ran.
fn time_with_busy_streams(slices: &[Slice]) -> [Duration; 2] {
    let mut edges: Vec<(u64, i32)> = slices.iter().flat_map(|slice| [(slice.start, 1), (slice.end, -1)]).collect();
    edges.sort_unstable();
    let (mut running, mut since, mut time) = (0, 0, [0; 2]);
    for (at, change) in edges {
        for (least, time) in (1..).zip(&mut time) {
            *time += if running >= least { at - since } else { 0 };
        }
        running += change;
        since = at;
    }
    time.map(Duration::from_nanos)
}

fn process_name() -> Value {
    json!({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "trefoil"}})
}

fn lane_name(tid: usize, name: &str) -> Value {
    json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}})
}

fn lane_place(tid: usize) -> Value {
    json!({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": tid, "args": {"sort_index": tid}})
}

fn slice_event(tid: usize, slice: &Slice) -> Value {
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let (name, args) = match &slice.label {
        Some(label) => (format!("{}#{}", label.node, label.nano), label_args(label)),
        None => ("wait".to_owned(), json!({})),
    };
    let category = if slice.label.is_some() { "launch" } else { "wait" };
    json!({
        "ph": "X", "name": name, "cat": category, "pid": 1, "tid": tid,
        "ts": micros(slice.start), "dur": micros(slice.end - slice.start), "args": args,
    })
}

fn label_args(label: &Label) -> Value {
    json!({
        "layer": label.layer, "nano_batch": label.nano, "rows": label.num_rows,
        "plan": label.plan, "step": label.step,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label { node: "q", nano: 1, layer: Some(3), num_rows: 5, plan: "overlap", step: 7 };

    /// Two lanes; launches 0-40 and 60-90 µs on the first, 30-70 on the second, and a wait that counts for nothing.
    fn trace(capacity: usize) -> Trace {
        let trace = Trace::new(capacity);
        let at = |micros| trace.origin + Duration::from_micros(micros);
        let (compute, memory) = (trace.lane("compute"), trace.lane("memory \"2\""));
        trace.slice(compute, LABEL, at(0), at(40));
        trace.slice(compute, LABEL, at(60), at(90));
        trace.wait(memory, at(0), at(30));
        trace.slice(memory, Label { layer: None, ..LABEL }, at(30), at(70));
        trace
    }

    #[test]
    fn the_summary_adds_up() {
        let summary = trace(100).summary();
        let micros = Duration::from_micros;
        assert_eq!(summary.busy, [("compute".to_owned(), micros(70)), ("memory \"2\"".to_owned(), micros(40))]);
        assert_eq!((summary.any, summary.overlap, summary.num_dropped), (micros(90), micros(20), 0));
    }

    #[test]
    fn the_file_is_json_with_a_lane_per_stream() {
        let mut out = Vec::new();
        trace(100).write_json(&mut out).unwrap();
        let file: Value = serde_json::from_slice(&out).unwrap();
        let events = file["traceEvents"].as_array().unwrap();
        let names: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[1]["args"]["name"], "memory \"2\"");
        let launch = events.iter().find(|event| event["cat"] == "launch").unwrap();
        assert_eq!((&launch["name"], &launch["ts"], &launch["dur"]), (&json!("q#1"), &json!(0.0), &json!(40.0)));
        let args = json!({"layer": 3, "nano_batch": 1, "rows": 5, "plan": "overlap", "step": 7});
        assert_eq!(launch["args"], args);
        assert_eq!(events.iter().filter(|event| event["cat"] == "wait").count(), 1);
    }

    #[test]
    fn a_full_trace_counts_what_it_leaves_out() {
        let trace = trace(3);
        assert_eq!(trace.summary().num_dropped, 1);
        let mut out = Vec::new();
        trace.write_json(&mut out).unwrap();
        let file: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(file["otherData"]["slices_left_out"], 1);
    }
}
