//! Whether every launch finds in a buffer what was put there for it.
//!
//! Order alone does not tell: a value that is written over before its last reader is ordered, and lost. So the launches
//! are gone through in the order of the host's program, keeping for every part of the rows what was written last, and
//! where.

use std::collections::BTreeMap;

use trefoil_ir::depend;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{BufferId, ValueId};

use crate::program::{Handover, Program, SiteId, Trace};
use crate::touch::{Layout, Spot, Thing, Touch};

/// The first launch that reads something else than it means to, and what it means to read.
pub(super) fn first_lost(
    graph: &Graph,
    program: &Program,
    trace: &Trace,
    layout: &Layout,
    buffer: BufferId,
) -> Option<(SiteId, ValueId)> {
    let mut contents = Contents { graph, layout, buffer, written: BTreeMap::new() };
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
    graph: &'a Graph,
    layout: &'a Layout,
    buffer: BufferId,
    /// For each part of the rows, what was written and where, the latest last.
    written: BTreeMap<usize, Vec<(Spot, ValueId)>>,
}

impl Contents<'_> {
    /// The value, if the touch reads it and it is not there.
    fn touch(&mut self, touch: &Touch) -> Option<ValueId> {
        let Thing::Value(value) = touch.thing else { return None };
        let spot = self.layout.spot(value).filter(|spot| spot.buffer == self.buffer)?;
        let meant = depend::base(self.graph, value);
        for cell in touch.rows.cells() {
            let written = self.written.entry(cell).or_default();
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
