//! What a launch schedule does on a device: its launches run by the clock of the cost model.
//!
//! [`tasks::of`] turns a scheduled graph, at one configuration and one batch, into tasks; [`engine::run`] lets them run
//! side by side as a device profile says; [`report`], [`trace`] and [`picture`] show what came of it, and [`totals`] sums it up for those who ask often. Nothing is random
//! and nothing is measured: the same schedule gives the same times everywhere.
//!
//! # What is not simulated
//!
//! The host (launches cost what the profile's kernels say), caches, clocks that sink under load, and the step after:
//! a step begins on an idle device and ends with its last launch.

pub mod engine;
pub mod picture;
pub mod report;
mod speeds;
pub mod tasks;
pub mod totals;
pub mod trace;
pub mod units;

use trefoil_ir::graph::Graph;
use trefoil_ir::schedule::Stream;

use crate::cost::{Mix, Model};
use crate::profile::Profile;

use engine::{Run, Task};
use tasks::{Site, Tasks};

/// One step of a scheduled graph on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The device.
    pub profile: &'a Profile,
    /// The batch.
    pub mix: Mix,
    /// The tasks, in the order of the host's program.
    pub tasks: Vec<Task>,
    /// The launch behind each task.
    pub sites: Vec<Site<'a>>,
    /// When they ran, with all pieces.
    pub run: Run,
}

impl<'a> Simulation<'a> {
    /// Runs one step; one without launches where the graph has no schedule.
    pub fn of(model: &Model<'a>, mix: &Mix) -> Self {
        let Tasks { tasks, sites } = tasks::of(model, mix);
        let run = engine::run(model.profile, &tasks, true);
        Self { graph: model.graph, profile: model.profile, mix: *mix, tasks, sites, run }
    }

    /// The plan's streams, by their number.
    pub fn streams(&self) -> impl Iterator<Item = &'a Stream> {
        self.graph.streams.iter().flat_map(|streams| streams.values())
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.sites.iter().filter_map(|site| site.layer).max().map_or(0, |last| last + 1)
    }
}

/// Seconds of one step: all that the search asks.
pub fn seconds(model: &Model, mix: &Mix) -> f64 {
    engine::run(model.profile, &tasks::of(model, mix).tasks, false).end
}
