//! How fast a layer could be at best: a linear program over the ways to share the device.
//!
//! At any moment compute, memory and network have shares that sum to 1 at most; the time spent in each way of sharing is
//! a variable, and each resource must have done its work in the end. Order, dependencies, bandwidth and what cutting
//! costs are left out, so no plan is faster. Speeds are linear between the points of the profile, and a linear program
//! has its optimum in corners, so the points' shares are all the ways that need to be looked at.

use good_lp::{Expression, ProblemVariables, Solution, SolverModel, constraint, default_solver, variable};

use crate::profile::{Profile, ResourceKey};

const RESOURCES: [ResourceKey; 3] = [ResourceKey::Compute, ResourceKey::Memory, ResourceKey::Network];

/// The least seconds in which a device does so many seconds of work of each resource, in the order compute, memory,
/// network; `None` where the solver fails.
pub(super) fn least_seconds(profile: &Profile, work: [f64; 3]) -> Option<f64> {
    let ways = ways(profile, work.map(|seconds| seconds > 0.0));
    let mut variables = ProblemVariables::new();
    let times: Vec<_> = ways.iter().map(|_| variables.add(variable().min(0.0))).collect();
    let total: Expression = times.iter().sum();
    let mut model = variables.minimise(total).using(default_solver);
    for (resource, seconds) in work.into_iter().enumerate() {
        let done: Expression = times.iter().zip(&ways).map(|(time, way)| *time * speed(profile, way, resource)).sum();
        model = model.with(constraint!(done >= seconds));
    }
    let solution = model.solve().ok()?;
    Some(times.iter().map(|time| solution.value(*time)).sum())
}

fn speed(profile: &Profile, way: &[f64; 3], resource: usize) -> f64 {
    profile.speed(RESOURCES[resource], way[resource])
}

/// The ways to share the device: for memory and network each point of their curves, the rest for compute.
fn ways(profile: &Profile, is_used: [bool; 3]) -> Vec<[f64; 3]> {
    let shares = |resource: usize| {
        let points = profile.sharing.get(&RESOURCES[resource]).map(|speed| speed.points().to_vec()).unwrap_or_default();
        let own = points.into_iter().map(|(share, _)| share).filter(|_| is_used[resource]);
        [0.0, 1.0].into_iter().filter(|share| *share == 0.0 || is_used[resource]).chain(own).collect::<Vec<_>>()
    };
    let (memory, network) = (shares(1), shares(2));
    let pairs = memory.iter().flat_map(|memory| network.iter().map(move |network| (*memory, *network)));
    let fitting = pairs.filter(|(memory, network)| memory + network <= 1.0 + 1e-9);
    fitting.map(|(memory, network)| [(1.0 - memory - network).max(0.0), memory, network]).collect()
}
