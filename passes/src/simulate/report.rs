//! What a simulated step says in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::profile::{Network, ResourceKey};

use super::Simulation;
use super::engine::{Piece, Task, seconds};

/// A step in numbers, of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Seconds of the step.
    pub seconds: f64,
    /// Rows of its dense batch.
    pub tokens: u32,
    /// Rows per second.
    pub tokens_per_second: f64,
    /// Time in which at least one stream runs.
    pub busy_seconds: f64,
    /// Time in which two or more do.
    pub overlap_seconds: f64,
    /// Compute, memory and network, as far as the device has them.
    pub resources: Vec<ResourceUse>,
    /// Each stream.
    pub streams: Vec<StreamUse>,
    /// All launches of a node, by the order of their first one.
    pub nodes: Vec<NodeUse>,
    /// The chain of launches that the step's end waited for, by node, the longest first.
    pub critical_path: Vec<NodeTime>,
}

/// What a step uses of a resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceUse {
    /// Compute, memory or network.
    pub name: &'static str,
    /// Floating-point operations or bytes.
    pub work: f64,
    /// Of these, per second, at most.
    pub peak: f64,
    /// Work over what the peak would do in the step's time.
    pub utilisation: f64,
    /// The same over equal parts of the step's time.
    pub over_time: Vec<f64>,
}

/// How busy a stream was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamUse {
    /// Its name.
    pub name: String,
    /// Time in which it ran launches.
    pub busy_seconds: f64,
}

/// What a node's launches took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeUse {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: &'static str,
    /// The resource that bounds it.
    pub bound_by: &'static str,
    /// Launches that take time.
    pub num_launches: usize,
    /// Their time, all added up.
    pub seconds: f64,
    /// What they would have taken alone.
    pub seconds_alone: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of memory.
    pub bytes: f64,
    /// Bytes over the network.
    pub network: f64,
}

/// Time of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeTime {
    /// The node.
    pub node: String,
    /// Its time.
    pub seconds: f64,
}

/// The resources, in the order in which they are shown.
pub const RESOURCES: [ResourceKey; 3] = [ResourceKey::Compute, ResourceKey::Memory, ResourceKey::Network];

/// A resource as readers call it.
pub fn resource_name(resource: ResourceKey) -> &'static str {
    match resource {
        ResourceKey::Compute => "compute",
        ResourceKey::Memory => "memory",
        ResourceKey::Network => "network",
    }
}

impl Simulation<'_> {
    /// The step in numbers, utilisation over `num_parts` equal parts of its time.
    pub fn report(&self, num_parts: usize) -> Report {
        let at_least = |least: usize| {
            let pieces = self.run.pieces.iter().filter(|piece| piece.running.len() >= least);
            total(pieces.map(|piece| piece.end - piece.start))
        };
        Report {
            seconds: self.run.end,
            tokens: self.mix.tokens(),
            tokens_per_second: over(f64::from(self.mix.tokens()), self.run.end),
            busy_seconds: at_least(1),
            overlap_seconds: at_least(2),
            resources: self.resources(num_parts),
            streams: self.stream_uses(),
            nodes: self.nodes(),
            critical_path: self.critical_path(),
        }
    }

    /// What the device can do of a resource in a second; `None` for a network that it does not have.
    pub fn peak(&self, resource: ResourceKey) -> Option<f64> {
        match resource {
            ResourceKey::Compute => Some(self.profile.compute.flops),
            ResourceKey::Memory => Some(self.profile.memory.bandwidth),
            ResourceKey::Network => self.profile.network.map(Network::one_way),
        }
    }

    /// What is done of a resource per second during a piece.
    pub fn rate(&self, piece: &Piece, resource: ResourceKey) -> f64 {
        let of_task = |(task, speed): &(usize, f64)| {
            let task = &self.tasks[*task];
            over(work(task, resource), seconds(task)) * speed
        };
        total(piece.running.iter().map(of_task))
    }

    fn resources(&self, num_parts: usize) -> Vec<ResourceUse> {
        let with_peak = RESOURCES.into_iter().filter_map(|resource| Some((resource, self.peak(resource)?)));
        let all = with_peak.map(|(resource, peak)| {
            let work = total(self.tasks.iter().map(|task| work(task, resource)));
            let over_time = self.over_time(resource, num_parts).iter().map(|rate| over(*rate, peak)).collect();
            let utilisation = over(work, peak * self.run.end);
            ResourceUse { name: resource_name(resource), work, peak, utilisation, over_time }
        });
        all.collect()
    }

    /// What is done per second in each of `num_parts` equal parts of the time.
    fn over_time(&self, resource: ResourceKey, num_parts: usize) -> Vec<f64> {
        let length = self.run.end / num_parts.max(1) as f64;
        let mut rates = vec![0.0; num_parts];
        for piece in &self.run.pieces {
            let rate = self.rate(piece, resource);
            let first = (over(piece.start, length) as usize).min(num_parts);
            for (part, sum) in rates.iter_mut().enumerate().skip(first) {
                let start = piece.start.max(part as f64 * length);
                let end = piece.end.min((part + 1) as f64 * length);
                if end <= start && part > first {
                    break;
                }
                *sum += rate * over((end - start).max(0.0), length);
            }
        }
        rates
    }

    fn stream_uses(&self) -> Vec<StreamUse> {
        let busy = |number: usize| {
            let own = self.tasks.iter().zip(&self.run.spans).filter(|(task, _)| task.stream == number);
            total(own.map(|(_, span)| span.end - span.start))
        };
        let streams = self.streams().enumerate();
        streams.map(|(number, stream)| StreamUse { name: stream.name.clone(), busy_seconds: busy(number) }).collect()
    }

    fn nodes(&self) -> Vec<NodeUse> {
        let mut nodes: Vec<NodeUse> = Vec::new();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for ((task, site), span) in self.tasks.iter().zip(&self.sites).zip(&self.run.spans) {
            let number = *numbers.entry(site.node).or_insert(nodes.len());
            if number == nodes.len() {
                nodes.push(NodeUse::nothing_of(site.node, site.operator, task.resource));
            }
            nodes[number].add(task, span.end - span.start);
        }
        nodes.retain(|node| node.num_launches > 0);
        nodes
    }

    fn critical_path(&self) -> Vec<NodeTime> {
        let mut times: Vec<NodeTime> = Vec::new();
        for number in self.critical_tasks() {
            let span = self.run.spans[number];
            let node = self.sites[number].node;
            match times.iter_mut().find(|time| time.node == node) {
                Some(time) => time.seconds += span.end - span.start,
                None => times.push(NodeTime { node: node.to_owned(), seconds: span.end - span.start }),
            }
        }
        times.retain(|time| time.seconds > 0.0);
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        times
    }

    /// The chain of tasks that the end waited for, the last one first: each began when the next one in the list ended.
    pub fn critical_tasks(&self) -> Vec<usize> {
        let before = self.stream_predecessors();
        let mut chain = Vec::new();
        let mut last = (0..self.tasks.len()).max_by(|a, b| self.end_of(*a).total_cmp(&self.end_of(*b)));
        while let Some(task) = last {
            chain.push(task);
            last = self.waited_for(task, before[task]);
        }
        chain
    }

    /// The task at whose end this one began: one that it follows, or one that had the units that it asked for.
    fn waited_for(&self, task: usize, before: Option<usize>) -> Option<usize> {
        let later_end = |a: &usize, b: &usize| self.end_of(*a).total_cmp(&self.end_of(*b));
        let followed = self.tasks[task].after.iter().copied().chain(before).max_by(later_end);
        let start = self.run.spans[task].start;
        if followed.map_or(0.0, |followed| self.end_of(followed)) >= start {
            return followed;
        }
        let ran_before = |other: &usize| self.run.spans[*other].start < start && self.end_of(*other) <= start;
        (0..self.tasks.len()).filter(ran_before).max_by(later_end)
    }

    fn end_of(&self, task: usize) -> f64 {
        self.run.spans[task].end
    }

    /// The task before each on its stream.
    fn stream_predecessors(&self) -> Vec<Option<usize>> {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        let tasks = self.tasks.iter().enumerate();
        tasks.map(|(number, task)| last.insert(task.stream, number)).collect()
    }
}

impl NodeUse {
    fn nothing_of(node: &str, operator: &'static str, resource: ResourceKey) -> Self {
        let bound_by = resource_name(resource);
        let (seconds, seconds_alone, flops, bytes, network) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let node = node.to_owned();
        Self { node, operator, bound_by, num_launches: 0, seconds, seconds_alone, flops, bytes, network }
    }

    fn add(&mut self, task: &Task, time: f64) {
        self.num_launches += usize::from(seconds(task) > 0.0);
        self.seconds += time;
        self.seconds_alone += seconds(task);
        self.flops += task.load.flops;
        self.bytes += task.load.bytes;
        self.network += task.load.network;
    }
}

pub(super) fn work(task: &Task, resource: ResourceKey) -> f64 {
    match resource {
        ResourceKey::Compute => task.load.flops,
        ResourceKey::Memory => task.load.bytes,
        ResourceKey::Network => task.load.network,
    }
}

/// A sum that is 0, and not -0 as that of the standard library, where there is nothing to add.
fn total(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, number| sum + number)
}

/// A quotient, nothing where there is nothing to divide by.
fn over(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
