//! Joins operators that are faster as one.
//!
//! - Linears that read the same value become one whose weight is their weights stacked: one product fills the device
//!   where three do not, and reads its input once. Their values become windows of the columns of the joint one, and
//!   weights that are then read only as a part of a joint one leave the table. Linears with a bias are joined with each
//!   other, not with those without. One whose value is what its body gives, or what layers carry on, stays alone: such a
//!   value lives where the layers find it, and cannot be a window of another.
//!   Products of experts stay alone: of a joint one, the columns of one old value would not lie side by side, for each
//!   expert of a row gives all of its columns after another.
//! - A residual `Add` and the `RmsNorm` of its sum become one pass over the rows that gives both.

mod linears;
mod residual;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Stage};

use crate::pipeline::{Ctx, Pass};
use crate::rewrite::{bodies, drop_unread_weights};

/// The pass.
pub(crate) struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }
    fn needs(&self) -> Stage {
        Stage::Lowered
    }
    fn gives(&self) -> Stage {
        Stage::Lowered
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        for body in bodies(graph) {
            linears::fuse(graph, body);
            residual::fuse(graph, body);
        }
        drop_unread_weights(graph);
        Ok(())
    }
}
