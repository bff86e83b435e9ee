//! The plans that a step may run by on a device, and which of them it takes: the rule is the runtime's own.

use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;
use trefoil_passes::cost::{Mix, Model};
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;
use trefoil_runtime::device::cpu::CpuDevice;
use trefoil_runtime::launch::StepRows;
use trefoil_runtime::model::{self, Suits};

use crate::source::Source;
use crate::study::Study;

/// A plan that goes with device and ranks.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) suits: Suits,
    /// The graph compiled by it, with the sizes of a rank.
    graph: Graph,
    bound: Bound,
}

impl Candidate {
    /// The plan compiled for the study, whose device and ranks it goes with.
    pub(crate) fn compile(study: &Study, source: &Source) -> anyhow::Result<Self> {
        let plan = source.load_plan()?;
        let (graph, bound) = study.compile(source)?;
        Ok(Self { suits: suits(&plan), name: plan.name, graph, bound })
    }

    /// Its costs on a device.
    pub(crate) fn model<'a>(&'a self, profile: &'a Profile) -> Model<'a> {
        Model { graph: &self.graph, bound: &self.bound, profile }
    }
}

/// The number of the plan that a step of these rows takes.
pub(crate) fn choose(candidates: &[Candidate], mix: &Mix) -> usize {
    let rows = StepRows { tokens: mix.tokens(), decode: mix.decode, seqs: mix.seqs };
    model::choose(candidates.iter().map(|candidate| candidate.suits), rows)
}

/// Why a plan does not go with the study's device and ranks, if it does not.
pub(crate) fn obstacle(study: &Study, plan: &Plan) -> Option<String> {
    let device = plan.device.as_ref().filter(|device| !runs_on(device, &study.profile.name));
    let ranks = plan.ranks.filter(|ranks| *ranks != study.ranks);
    match (device, ranks) {
        (None, None) => None,
        (Some(device), None) => Some(format!("is for {device}")),
        (None, Some(ranks)) => Some(format!("is for {ranks} ranks")),
        (Some(device), Some(ranks)) => Some(format!("is for {ranks} × {device}")),
    }
}

/// Whether a device takes plans for this profile: its own, or on a processor those for any processor.
fn runs_on(profile: &str, device: &str) -> bool {
    profile == device || [profile, device].iter().all(|name| name.starts_with(CpuDevice::KIND))
}

fn suits(plan: &Plan) -> Suits {
    let trefoil_passes::plan::Suits { min_tokens, min_decode, max_tokens, max_decode } = plan.suits;
    Suits { min_tokens, min_decode, max_tokens, max_decode }
}
