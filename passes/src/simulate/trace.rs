//! A simulated step for <https://ui.perfetto.dev>: the Trace Event Format's JSON object form, as the runtime writes it.
//!
//! A lane per stream, a slice per launch with what is known of it, and a counter per resource: what is used of it, in
//! percent of its peak. Times are microseconds of simulated time.

use serde_json::{Value, json};

use super::Simulation;
use super::engine::{Piece, seconds};
use super::report::{RESOURCES, resource_name};

impl Simulation<'_> {
    /// The step as a trace.
    pub fn trace(&self) -> String {
        let events = self.lanes().chain(self.slices()).chain(self.counters());
        let lines: Vec<String> = events.map(|event| event.to_string()).collect();
        format!("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
    }

    fn lanes(&self) -> impl Iterator<Item = Value> {
        let process = json!({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "trefoil simulate"}});
        let lane = |(tid, stream): (usize, &trefoil_ir::schedule::Stream)| {
            let name = json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": stream.name}});
            let place =
                json!({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": tid, "args": {"sort_index": tid}});
            [name, place]
        };
        std::iter::once(process).chain(self.streams().enumerate().flat_map(lane))
    }

    fn slices(&self) -> impl Iterator<Item = Value> {
        let tasks = (0..self.tasks.len()).filter(|task| seconds(&self.tasks[*task]) > 0.0);
        tasks.map(|number| {
            let (task, site, span) = (&self.tasks[number], &self.sites[number], self.run.spans[number]);
            json!({
                "ph": "X", "name": format!("{}#{}", site.node, site.nano), "cat": "launch", "pid": 1, "tid": task.stream,
                "ts": micros(span.start), "dur": micros(span.end - span.start),
                "args": {
                    "node": site.node, "operator": site.operator, "nano_batch": site.nano, "layer": site.layer,
                    "rows": site.rows.end - site.rows.start, "bound_by": resource_name(task.resource),
                    "share": task.share, "speed": self.mean_speed(number),
                },
            })
        })
    }

    fn counters(&self) -> impl Iterator<Item = Value> {
        let known = RESOURCES.into_iter().filter_map(|resource| Some((resource, self.peak(resource)?)));
        known.flat_map(move |(resource, peak)| {
            let used = move |piece: &Piece| counter(resource, piece.start, 100.0 * self.rate(piece, resource) / peak);
            let end = std::iter::once(counter(resource, self.run.end, 0.0));
            self.run.pieces.iter().map(used).chain(end)
        })
    }

    /// A launch's speed over its time; 1 for that of one alone on the whole device.
    pub fn mean_speed(&self, task: usize) -> f64 {
        let span = self.run.spans[task];
        let time = span.end - span.start;
        if time > 0.0 { seconds(&self.tasks[task]) / time } else { 1.0 }
    }
}

fn counter(resource: crate::profile::ResourceKey, at: f64, percent: f64) -> Value {
    let name = format!("{} %", resource_name(resource));
    json!({"ph": "C", "name": name, "pid": 1, "ts": micros(at), "args": {"used": percent}})
}

fn micros(seconds: f64) -> f64 {
    seconds * 1e6
}
