//! Puts records and waits into a schedule that has only launches: enough to rule out every race, and none that could
//! be left out.
//!
//! Two launches must be ordered when they touch the same rows and columns of a value, or the same layer of a cache, and
//! one of them writes. What repeats carry on is one place; all other values are apart here, and `memory` later lets
//! them share only what is ordered anyway. Consecutive steps of the same plan may overlap, so the launches of one are
//! ordered against those of the next (whose cuts differ: there, all rows of a value meet); and when the stream that
//! gives the result ends, all launches of the step are done.
//!
//! The method: unroll the program ([`crate::trace`]) and go through it. At the first launch that may run too early,
//! link it to the latest launch it must follow on the other stream (a still later one could stand in for more links, and
//! would make it wait for more); begin again. When nothing is left, take out each link that the others imply. One event
//! is recorded after each launch that links start from, however many wait for it. A link into a repeated section from
//! outside is waited for once, where the section begins.
//!
//! Events order accesses, and cannot bring back a value that is written over before its last reader in any order: see
//! [`crate::carry`] for the graphs that are refused.

use std::collections::BTreeSet;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Stage};
use trefoil_ir::ids::{EventId, Id};
use trefoil_ir::schedule::{Schedule, Section, Step};

use crate::carry;
use crate::pipeline::{Ctx, Pass};
use crate::program::{Move, Program, SiteId, Text};
use crate::touch::Layout;
use crate::trace::{Clashes, Trace};

/// The pass.
pub(crate) struct Sync;

impl Pass for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }
    fn needs(&self) -> Stage {
        Stage::Grouped
    }
    fn gives(&self) -> Stage {
        Stage::Scheduled
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let Some(launches_only) = &graph.schedule else { return Ok(()) };
        let mistakes = carry::mistakes(graph, launches_only);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        graph.schedule = Some(synchronise(graph, launches_only));
        Ok(())
    }
}

/// `to` starts when `from` is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    from: SiteId,
    to: SiteId,
}

fn synchronise(graph: &Graph, schedule: &Schedule) -> Schedule {
    let program = Program::of(graph, schedule);
    let clashes = Clashes::of(&program, &Layout::apart(graph));
    let planner = Planner { clashes, program: &program };
    let texts = planner.weave(&planner.fewest_links());
    emit(&program, &texts, schedule)
}

struct Planner<'a> {
    program: &'a Program<'a>,
    clashes: Clashes,
}

impl Planner<'_> {
    fn fewest_links(&self) -> BTreeSet<Link> {
        let mut links = BTreeSet::new();
        while let Some(link) = self.first_gap(&links) {
            links.insert(link);
        }
        self.without_implied(links)
    }

    fn without_implied(&self, mut links: BTreeSet<Link>) -> BTreeSet<Link> {
        for link in links.clone() {
            links.remove(&link);
            if self.first_gap(&links).is_some() {
                links.insert(link);
            }
        }
        links
    }

    /// A link that is missing. The longest order of layers comes first: what few layers need besides is rare.
    fn first_gap(&self, links: &BTreeSet<Link>) -> Option<Link> {
        let texts = self.weave(links);
        self.program.layer_orders().into_iter().rev().find_map(|order| {
            let trace = Trace::of(self.program, &texts, &order);
            trace.first_race(&self.clashes).map(|(earlier, later)| Link { from: earlier.site, to: later.site })
        })
    }

    /// The program with the links' records and waits.
    fn weave(&self, links: &BTreeSet<Link>) -> Vec<Text> {
        let mut woven: Vec<Text> = vec![];
        for (section, text) in self.program.texts.iter().enumerate() {
            match text {
                Text::Once(moves) => woven.push(Text::Once(self.weave_moves(moves, links))),
                Text::Repeat { carry, blocks } => {
                    append(&mut woven, self.waits_at_entry(section, links));
                    let blocks = blocks.iter().map(|moves| self.weave_moves(moves, links)).collect();
                    woven.push(Text::Repeat { carry: carry.clone(), blocks });
                }
            }
        }
        woven
    }

    fn weave_moves(&self, moves: &[Move], links: &BTreeSet<Link>) -> Vec<Move> {
        let weave = |own: &Move| {
            let Move::Launch(site) = *own else { return vec![*own] };
            let stream = self.program.site(site).stream;
            let waits = links.iter().filter(|link| link.to == site && !self.is_at_entry(link));
            let waits = waits.map(|link| Move::Wait(stream, event_of(link.from)));
            let is_awaited = links.iter().any(|link| link.from == site);
            let record = is_awaited.then_some(Move::Record(stream, event_of(site)));
            waits.chain([*own]).chain(record).collect()
        };
        moves.iter().flat_map(weave).collect()
    }

    fn is_at_entry(&self, link: &Link) -> bool {
        let (from, to) = (self.program.site(link.from).section, self.program.site(link.to).section);
        from != to && matches!(self.program.texts.get(to), Some(Text::Repeat { .. }))
    }

    fn waits_at_entry(&self, section: usize, links: &BTreeSet<Link>) -> Vec<Move> {
        let mut waits = vec![];
        for link in links.iter().filter(|link| self.is_at_entry(link)) {
            let to = self.program.site(link.to);
            let wait = Move::Wait(to.stream, event_of(link.from));
            if to.section == section && !waits.contains(&wait) {
                waits.push(wait);
            }
        }
        waits
    }
}

/// While links are sought, the event recorded after a launch has the launch's number.
fn event_of(site: SiteId) -> EventId {
    EventId::new(site.0)
}

/// Puts moves behind all others, in a section that runs once.
fn append(texts: &mut Vec<Text>, moves: Vec<Move>) {
    match texts.last_mut() {
        _ if moves.is_empty() => {}
        Some(Text::Once(last)) => last.extend(moves),
        Some(Text::Repeat { .. }) | None => texts.push(Text::Once(moves)),
    }
}

/// The schedule of a program, its events numbered in the order of their records.
fn emit(program: &Program, texts: &[Text], launches_only: &Schedule) -> Schedule {
    let records = texts.iter().flat_map(Text::moves).filter_map(|step| match step {
        Move::Record(_, event) => Some(*event),
        Move::Launch(_) | Move::Wait(..) => None,
    });
    let events: Vec<EventId> = records.collect();
    let steps = |moves: &Vec<Move>| moves.iter().filter_map(|step| emit_step(program, &events, step)).collect();
    let mut all_times = launches_only.sections.iter().filter_map(|section| match section {
        Section::Repeat { times, .. } => Some(times.clone()),
        Section::Once(_) => None,
    });
    let section = |text: &Text| match text {
        Text::Once(moves) => Section::Once(steps(moves)),
        Text::Repeat { carry, blocks } => {
            let blocks = carry.blocks.iter().map(|(block, ..)| *block).zip(blocks.iter().map(steps)).collect();
            Section::Repeat { blocks, times: all_times.next().unwrap_or_default() }
        }
    };
    let is_empty = |section: &Section| matches!(section, Section::Once(steps) if steps.is_empty());
    let sections = texts.iter().map(section).filter(|section| !is_empty(section)).collect();
    Schedule { sections, num_events: events.len(), ..launches_only.clone() }
}

/// A step, with its event numbered by its place in `events`; `None` for the host's reading, which is no launch.
fn emit_step(program: &Program, events: &[EventId], step: &Move) -> Option<Step> {
    let number = |event: EventId| events.iter().position(|own| *own == event).map(EventId::new);
    match *step {
        Move::Launch(site) => program.site(site).launch.map(|launch| Step::Launch(launch.clone())),
        Move::Record(stream, event) => number(event).map(|event| Step::Record { stream, event }),
        Move::Wait(stream, event) => number(event).map(|event| Step::Wait { stream, event }),
    }
}

#[cfg(test)]
mod tests {
    use trefoil_ir::graph::Value;
    use trefoil_ir::ids::StreamId;
    use trefoil_ir::op::Op;
    use trefoil_ir::schedule::Launch;

    use super::*;
    use crate::pipeline::run_until;
    use crate::plan::Plan;

    fn ordered() -> Graph {
        let graph = trefoil_ir::load::load("llama", include_str!("../../models/graphs/llama.ron")).unwrap();
        let plan = Plan::load("overlap-2", include_str!("../../models/plans/overlap-2.ron")).unwrap();
        run_until(graph, &plan, "order").unwrap()
    }

    #[test]
    fn implied_links_are_taken_out() {
        let graph = ordered();
        let program = Program::of(&graph, graph.schedule.as_ref().unwrap());
        let planner = Planner { clashes: Clashes::of(&program, &Layout::apart(&graph)), program: &program };
        let fewest = planner.fewest_links();
        assert_eq!(fewest.len(), 4);

        let (first, last) = (SiteId(0), SiteId(program.sites.len() - 1));
        let attention = fewest.first().unwrap().to;
        let mut more = fewest.clone();
        more.extend([Link { from: first, to: attention }, Link { from: attention, to: last }]);
        assert_eq!(more.len(), 6);
        assert_eq!(planner.without_implied(more), fewest);
    }

    #[test]
    fn what_nothing_reads_is_done_when_the_step_ends() {
        let mut graph = ordered();
        let Some(Section::Once(head)) = graph.schedule.as_mut().unwrap().sections.last_mut() else { panic!("no head") };
        let Step::Launch(norm) = head[0].clone() else { panic!("no launch") };
        assert!(matches!(norm.op, Op::RmsNorm { .. }));
        let unread = graph.values.push(Value { name: "unread".into(), ..graph.values[norm.outputs[0]].clone() });
        let stream = StreamId::new(1);
        head.push(Step::Launch(Launch { node: "unread".into(), outputs: vec![unread], stream, ..norm }));

        let with_events = synchronise(&graph, graph.schedule.as_ref().unwrap());
        let Some(Section::Once(head)) = with_events.sections.last() else { panic!("no head") };
        let Some(Step::Wait { stream: waiting, event }) = head.last() else { panic!("{head:?}") };
        assert_eq!(*waiting, StreamId::new(0));
        assert!(head.contains(&Step::Record { stream, event: *event }), "{head:?}");
    }
}
