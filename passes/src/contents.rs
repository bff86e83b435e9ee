//! Whether every launch finds in memory what was put there for it.
//!
//! Order alone does not tell: a value that is written over before its last reader is ordered, and lost. So the launches
//! are gone through in the order of the host's program, keeping for every part of the rows what was written last, and
//! where.

use std::collections::BTreeMap;

use trefoil_ir::ids::{BufferId, ValueId};
use trefoil_ir::schedule::Launch;

use crate::program::{Program, Site, SiteId};
use crate::touch::{Layout, Spot, Thing, Touch};
use crate::trace::{Handover, Trace};

/// The first launch that reads something else than it means to, and what it means to read; of all buffers or of one.
pub(crate) fn first_lost(
    program: &Program,
    trace: &Trace,
    layout: &Layout,
    only: Option<BufferId>,
) -> Option<(SiteId, ValueId)> {
    let mut contents = Contents { program, layout, only, written: BTreeMap::new() };
    let mut handovers = trace.handovers.iter().peekable();
    for (number, run) in trace.runs.iter().enumerate() {
        while let Some(handover) = handovers.next_if(|handover| handover.before <= number) {
            contents.hand_over(handover);
        }
        for touch in &program.site(run.site).touches {
            if let Some(value) = contents.touch(touch) {
                return Some((run.site, value));
            }
        }
    }
    None
}

struct Contents<'a> {
    program: &'a Program<'a>,
    layout: &'a Layout,
    only: Option<BufferId>,
    /// For each buffer and part of the rows, what was written and where, the latest last.
    written: BTreeMap<(BufferId, usize), Vec<(Spot, ValueId)>>,
}

impl Contents<'_> {
    /// The value, if the touch reads it and it is not there.
    fn touch(&mut self, touch: &Touch) -> Option<ValueId> {
        let Thing::Value(value) = touch.thing else { return None };
        let spot = self.layout.spot(value).filter(|spot| self.only.is_none_or(|only| only == spot.buffer))?;
        let meant = self.program.base(value);
        for cell in touch.rows.cells() {
            let written = self.written.entry((spot.buffer, cell)).or_default();
            if touch.writes {
                written.retain(|(old, _)| old != spot);
                written.push((spot.clone(), value));
            } else if written.iter().rev().find(|(old, _)| old.overlaps(spot)).is_none_or(|(_, found)| *found != meant)
            {
                return Some(value);
            }
        }
        None
    }

    fn hand_over(&mut self, handover: &Handover) {
        for (_, value) in self.written.values_mut().flatten() {
            if *value == handover.from {
                *value = handover.to;
            }
        }
    }
}

/// Whether a launch writes over something it reads, other than in place, or writes one thing over another.
pub(crate) fn overwrites_itself(site: &Site, layout: &Layout) -> bool {
    let Some(launch) = site.launch else { return false };
    let over = |a: &Touch, b: &Touch| match (a.thing, b.thing) {
        (Thing::Value(read), Thing::Value(written)) => {
            let in_place = !a.writes && works_in_place(launch, layout, read, written);
            b.writes && !in_place && layout.clash(a, b, true)
        }
        (Thing::Cache(_), _) | (_, Thing::Cache(_)) => false,
    };
    let touches = || site.touches.iter().enumerate();
    touches().any(|(at, a)| touches().any(|(other, b)| at != other && over(a, b)))
}

fn works_in_place(launch: &Launch, layout: &Layout, read: ValueId, written: ValueId) -> bool {
    let number = launch.outputs.iter().position(|output| *output == written);
    let is_made_for_it = number.is_some_and(|number| launch.op.in_place(number).contains(&read));
    let num_reads = launch.op.operands().into_iter().filter(|(_, operand)| *operand == read).count();
    is_made_for_it && num_reads == 1 && layout.spot(read) == layout.spot(written)
}
