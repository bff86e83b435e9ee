//! Gives every value a home: a window of columns of a buffer, which several values share one after the other.
//!
//! This comes after `sync` and adds no events: two values share memory only where the schedule as it is orders all
//! launches that touch the one against all that write the other, on every row both can have, in every layer and from
//! step to step. More reuse could be bought with more waiting; memory for activations is small beside weights and KV
//! pages, and waiting is what nano-batches are there to avoid.
//!
//! - What layers carry on (what the first takes, every layer takes and gives, and the last gives) has one home, since
//!   layers are one text; `sync` has refused graphs where that cannot be.
//! - An operator that can work in place ([`trefoil_ir::op::Op::in_place`]) does so where nothing else reads the old value
//!   later.
//! - Windows of columns live in what they are windows of.
//! - Other values take the first buffer that is free for them, one of their own width before others, or a new one.
//!   Widths are symbolic, and a buffer is as wide as its widest tenant, so sharing never costs memory.
//!
//! [`footprint()`] tells what sharing saves.

mod footprint;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, SEQS, Stage};
use trefoil_ir::ids::{BufferId, Id, Table, ValueId};
use trefoil_ir::schedule::{Buffer, BufferRows, Home, Schedule};

pub use footprint::{Footprint, footprint};

use crate::carry::families;
use crate::contents::{first_lost, overwrites_itself};
use crate::pipeline::{Ctx, Pass};
use crate::program::Program;
use crate::touch::{Layout, Spot, width_of};
use crate::trace::{Clashes, Trace};

/// The pass.
pub(crate) struct Memory;

impl Pass for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn needs(&self) -> Stage {
        Stage::Scheduled
    }
    fn gives(&self) -> Stage {
        Stage::Scheduled
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let Some(schedule) = &graph.schedule else { return Ok(()) };
        let mut placer = Placer::new(graph, schedule);
        placer.place_carried();
        placer.place_others();
        let buffers = placer.buffers();
        let homes = placer.homes();
        graph.schedule = Some(Schedule { buffers, homes, ..schedule.clone() });
        Ok(())
    }
}

struct Placer<'a> {
    graph: &'a Graph,
    program: Program<'a>,
    traces: Vec<Trace>,
    layout: Layout,
}

impl<'a> Placer<'a> {
    fn new(graph: &'a Graph, schedule: &'a Schedule) -> Self {
        let program = Program::of(graph, schedule);
        let orders = program.layer_orders();
        let traces = orders.iter().map(|order| Trace::of(&program, &program.texts, order)).collect();
        Self { graph, program, traces, layout: Layout::empty(graph) }
    }

    fn place_carried(&mut self) {
        for family in families(self.graph) {
            let buffer = self.layout.new_buffer();
            for value in family {
                self.layout.put(self.graph, value, buffer);
            }
        }
    }

    fn place_others(&mut self) {
        let sites: Vec<_> = self.program.sites.iter().filter_map(|site| site.launch).collect();
        for launch in sites {
            for (number, value) in launch.outputs.iter().enumerate() {
                if self.layout.spot(*value).is_none() {
                    self.place(*value, &launch.op.in_place(number));
                }
            }
        }
    }

    fn place(&mut self, value: ValueId, in_place_of: &[ValueId]) {
        let of_operands: Vec<_> =
            in_place_of.iter().filter_map(|operand| self.layout.spot(*operand).cloned()).collect();
        let width = width_of(self.graph, value);
        let at_start = |buffer| Spot { buffer, from: Dim::constant(0), width: width.clone() };
        let spots: Vec<_> = of_operands.into_iter().chain(self.candidates(value).into_iter().map(at_start)).collect();
        for spot in spots {
            let buffer = spot.buffer;
            self.layout.put_at(self.graph, value, spot);
            if self.is_peaceful(buffer) {
                return;
            }
            self.layout.take(self.graph, value);
        }
        let buffer = self.layout.new_buffer();
        self.layout.put(self.graph, value, buffer);
    }

    /// The buffers that have the value's kind of rows, those with a tenant of its width first.
    fn candidates(&self, value: ValueId) -> Vec<BufferId> {
        let rows = rows_of(self.graph, value);
        let width = width_of(self.graph, value);
        let all = (0..self.layout.num_buffers()).map(BufferId::new);
        let mut fitting: Vec<_> = all.filter(|buffer| self.rows(*buffer) == rows).collect();
        fitting.sort_by_key(|buffer| !self.widths(*buffer).contains(&width));
        fitting
    }

    /// The values that live in a buffer, but for windows of the columns of others.
    fn tenants(&self, buffer: BufferId) -> impl Iterator<Item = ValueId> {
        let is_whole = |value: &ValueId| self.program.base(*value) == *value;
        let lives_here = move |value: &ValueId| self.layout.spot(*value).is_some_and(|spot| spot.buffer == buffer);
        self.graph.values.ids().filter(lives_here).filter(is_whole)
    }

    fn rows(&self, buffer: BufferId) -> BufferRows {
        self.tenants(buffer).next().map_or(BufferRows::Tokens, |value| rows_of(self.graph, value))
    }

    fn widths(&self, buffer: BufferId) -> Vec<Dim> {
        let mut widths = vec![];
        for value in self.tenants(buffer) {
            let Some(spot) = self.layout.spot(value) else { continue };
            let end = spot.from.plus(&spot.width);
            if !widths.contains(&end) {
                widths.push(end);
            }
        }
        widths
    }

    /// Whether the tenants of a buffer, of which one is new, leave each other alone.
    fn is_peaceful(&self, buffer: BufferId) -> bool {
        if self.program.sites.iter().any(|site| overwrites_itself(site, &self.layout)) {
            return false;
        }
        let clashes = Clashes::of(&self.program, &self.layout);
        self.traces.iter().all(|trace| {
            let lost = first_lost(&self.program, trace, &self.layout, Some(buffer));
            lost.is_none() && trace.first_race(&clashes).is_none()
        })
    }

    fn buffers(&self) -> Table<BufferId, Buffer> {
        let all = (0..self.layout.num_buffers()).map(BufferId::new);
        all.map(|buffer| Buffer { rows: self.rows(buffer), columns: self.widths(buffer) }).collect()
    }

    fn homes(&self) -> Table<ValueId, Option<Home>> {
        let home = |spot: &Spot| Home { buffer: spot.buffer, column: spot.from.clone(), columns: spot.width.clone() };
        self.graph.values.ids().map(|value| self.layout.spot(value).map(home)).collect()
    }
}

fn rows_of(graph: &Graph, value: ValueId) -> BufferRows {
    let is_seqs = graph.values[value].ty.shape.first() == Some(&Dim::name(SEQS));
    if is_seqs { BufferRows::Seqs } else { BufferRows::Tokens }
}
