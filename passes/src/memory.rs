//! Gives every value a home: a window of columns of a buffer, which several values share one after the other.
//!
//! This comes after `sync` and adds no events: two values share memory only where the schedule as it is orders all
//! launches that touch the one against all that write the other, on every row both can have, in every layer and from
//! step to step. More reuse could be bought with more waiting; memory for activations is small beside weights and KV
//! pages, and waiting is what nano-batches are there to avoid.
//!
//! - What layers carry on (what the first takes, every layer takes and gives, and the last gives) has one home, since
//!   layers are one text. If a layer still reads what it took after the place has been written, no home exists and the
//!   graph is refused: see the codes.
//! - An operator that can work in place ([`Op::in_place`]) does so where nothing else reads the old value later.
//! - Windows of columns live in what they are windows of.
//! - Other values take the first buffer that is free for them, one of their own width before others, or a new one.
//!   Widths are symbolic, and a buffer is as wide as its widest tenant, so sharing never costs memory.
//!
//! [`footprint`] tells what sharing saves.
//!
//! | code | mistake |
//! |---|---|
//! | T1201 | layers carry on an input, which is the step's own and cannot be written |
//! | T1202 | a layer reads what it took after the place has its result, or computes the one from the other in one launch |

mod contents;
mod footprint;

use trefoil_ir::depend;
use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, SEQS, Stage};
use trefoil_ir::ids::{BufferId, Id, ValueId};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Buffer, BufferRows, Home, Launch, Schedule};

pub use footprint::{Footprint, footprint};

use crate::pipeline::{Ctx, Pass};
use crate::program::{Clashes, Program, SiteId, Trace};
use crate::touch::{Layout, Spot, Thing, Touch, families, width_of};

/// The pass.
pub struct Memory;

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
        placer.place_carried()?;
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

/// Why values cannot share a buffer.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// A launch would write over what it reads.
    InOneLaunch(SiteId),
    /// Two launches that touch the same rows are not ordered.
    Unordered,
    /// A launch would read something that has been written over.
    Lost { reader: SiteId, value: ValueId },
}

impl<'a> Placer<'a> {
    fn new(graph: &'a Graph, schedule: &'a Schedule) -> Self {
        let program = Program::of(graph, schedule);
        let counts = program.layer_counts();
        let traces = counts.map(|num_layers| Trace::of(&program, &program.texts, num_layers)).collect();
        Self { graph, program, traces, layout: Layout::empty(graph) }
    }

    fn place_carried(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut mistakes = vec![];
        for family in families(self.graph) {
            let buffer = self.layout.new_buffer();
            for value in &family {
                self.layout.put(self.graph, *value, buffer);
            }
            let input = family.iter().find(|value| self.graph.inputs.contains(value));
            mistakes.extend(input.map(|value| self.carried_input(*value)));
            mistakes.extend(self.trouble(buffer).and_then(|trouble| self.explain(trouble)));
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    fn carried_input(&self, value: ValueId) -> Diagnostic {
        let value = &self.graph.values[value];
        let message = format!("the layers take `{}`, an input of the step, and cannot write over it", value.name);
        Diagnostic::new("T1201", value.place, message).help("let the layers take what a node gives")
    }

    /// What is wrong with a graph whose layers cannot hand on in place.
    fn explain(&self, trouble: Trouble) -> Option<Diagnostic> {
        match trouble {
            Trouble::InOneLaunch(site) => {
                let launch = self.program.site(site).launch?;
                let message = format!("`{}` gives the layer's result straight from what the layer takes", launch.node);
                let help = format!("{} cannot write over what it reads: let another operator follow", launch.op.name());
                Some(Diagnostic::new("T1202", self.place_of(launch), message).help(help))
            }
            Trouble::Lost { reader, value } => {
                let name = &self.graph.values[value].name;
                let (node, place) = match self.program.site(reader).launch {
                    Some(launch) => (launch.node.as_str(), self.place_of(launch)),
                    None => ("the end of the step", self.graph.values[value].place),
                };
                let message = format!("`{node}` reads `{name}` when a layer has already written over it");
                let help = "layers hand on in one place: read what a layer takes before its result is there";
                Some(Diagnostic::new("T1202", place, message).help(help))
            }
            Trouble::Unordered => None,
        }
    }

    fn place_of(&self, launch: &Launch) -> Place {
        let mut nodes = self.graph.bodies().flat_map(|(_, body)| body);
        let node = nodes.find(|node| node.name == launch.node && node.outputs == launch.outputs);
        node.map(|node| node.place).unwrap_or_default()
    }

    fn place_others(&mut self) {
        let sites: Vec<_> = self.program.sites.iter().filter_map(|site| site.launch).collect();
        for launch in sites {
            for (number, value) in launch.outputs.iter().enumerate() {
                if self.layout.spot(*value).is_none() {
                    self.place(*value, in_place_of(&launch.op, number));
                }
            }
        }
    }

    fn place(&mut self, value: ValueId, in_place_of: Option<ValueId>) {
        let operand_spot = in_place_of.and_then(|operand| self.layout.spot(operand).cloned());
        let width = width_of(self.graph, value);
        let at_start = |buffer| Spot { buffer, from: Dim::constant(0), width: width.clone() };
        let spots: Vec<_> = operand_spot.into_iter().chain(self.candidates(value).into_iter().map(at_start)).collect();
        for spot in spots {
            let buffer = spot.buffer;
            self.layout.put_at(self.graph, value, spot);
            if self.trouble(buffer).is_none() {
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
        let is_whole = |value: &ValueId| depend::base(self.graph, *value) == *value;
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

    /// What speaks against the tenants that a buffer has.
    fn trouble(&self, buffer: BufferId) -> Option<Trouble> {
        let in_one_launch = (0..self.program.sites.len()).map(SiteId).find(|site| self.overwrites_itself(*site));
        if let Some(site) = in_one_launch {
            return Some(Trouble::InOneLaunch(site));
        }
        let clashes = Clashes::of(&self.program, &self.layout);
        self.traces.iter().find_map(|trace| {
            let lost = contents::first_lost(self.graph, &self.program, trace, &self.layout, buffer);
            let lost = lost.map(|(reader, value)| Trouble::Lost { reader, value });
            lost.or_else(|| trace.first_race(&clashes).map(|_| Trouble::Unordered))
        })
    }

    /// Whether a launch writes over something it reads, other than in place, or writes one thing over another.
    fn overwrites_itself(&self, site: SiteId) -> bool {
        let site = self.program.site(site);
        let Some(launch) = site.launch else { return false };
        let touches = || site.touches.iter().enumerate();
        let over = |a: &Touch, b: &Touch| match (a.thing, b.thing) {
            (Thing::Value(read), Thing::Value(written)) => {
                let in_place = !a.writes && self.works_in_place(launch, read, written);
                b.writes && !in_place && self.layout.clash(a, b, true)
            }
            (Thing::Cache(_), _) | (_, Thing::Cache(_)) => false,
        };
        touches().any(|(at, a)| touches().any(|(other, b)| at != other && over(a, b)))
    }

    fn works_in_place(&self, launch: &Launch, read: ValueId, written: ValueId) -> bool {
        let number = launch.outputs.iter().position(|output| *output == written);
        let is_made_for_it = number.and_then(|number| in_place_of(&launch.op, number)) == Some(read);
        let num_reads = launch.op.operands().into_iter().filter(|(_, operand)| *operand == read).count();
        is_made_for_it && num_reads == 1 && self.layout.spot(read) == self.layout.spot(written)
    }

    fn buffers(&self) -> trefoil_ir::ids::Table<BufferId, Buffer> {
        let all = (0..self.layout.num_buffers()).map(BufferId::new);
        all.map(|buffer| Buffer { rows: self.rows(buffer), columns: self.widths(buffer) }).collect()
    }

    fn homes(&self) -> trefoil_ir::ids::Table<ValueId, Option<Home>> {
        let home = |spot: &Spot| Home { buffer: spot.buffer, column: spot.from.clone(), columns: spot.width.clone() };
        self.graph.values.ids().map(|value| self.layout.spot(value).map(home)).collect()
    }
}

fn in_place_of(op: &Op, output: usize) -> Option<ValueId> {
    op.in_place().filter(|(_, number)| *number == output).map(|(operand, _)| operand)
}

fn rows_of(graph: &Graph, value: ValueId) -> BufferRows {
    let is_seqs = graph.values[value].ty.shape.first() == Some(&Dim::name(SEQS));
    if is_seqs { BufferRows::Seqs } else { BufferRows::Tokens }
}
