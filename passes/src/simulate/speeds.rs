//! How fast tasks run beside each other.
//!
//! - Each has its share of the device, and all shares together are at most 1.
//! - The profile gives the speed at that share, and what the others' presence costs beyond it.
//! - Memory and network are then divided max-min fairly: who wants no more than an even part gets what it wants, and
//!   the rest is divided evenly among the others.

use crate::profile::{Network, Oversubscribed, Profile, ResourceKey};

use super::engine::{Task, seconds};

/// Below this a task would all but stand still; no profile that was measured says so.
const LEAST_SPEED: f64 = 1e-6;

/// A task that is running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// Its number.
    pub(super) task: usize,
    /// What is left of it, in seconds at full speed.
    pub(super) seconds_left: f64,
    /// Its speed: 1 for that of a task alone on the whole device.
    pub(super) speed: f64,
    /// Its part of the device.
    pub(super) share: f64,
}

/// Gives every running task its share and speed.
pub(super) fn assign(profile: &Profile, tasks: &[Task], running: &mut [Running]) {
    share(profile, tasks, running);
    for number in 0..running.len() {
        running[number].speed = speed_beside(profile, tasks, running, number);
    }
    if running.len() > 1 {
        divide(tasks, running, profile.memory.bandwidth, |task| task.load.bytes);
        let link = profile.network.map_or(f64::INFINITY, Network::one_way);
        divide(tasks, running, link, |task| task.load.network);
    }
}

/// Gives every running task its share: what it asks for, or what is left where all together ask for more than there is.
fn share(profile: &Profile, tasks: &[Task], running: &mut [Running]) {
    let total: f64 = running.iter().map(|running| tasks[running.task].share).sum();
    let yields =
        |task: &Task| profile.oversubscribed == Oversubscribed::Yields && task.resource == ResourceKey::Compute;
    let yielding = running.iter().map(|running| &tasks[running.task]).filter(|task| yields(task));
    let yielding: f64 = yielding.map(|task| task.share).sum();
    let kept = total - yielding;
    for running in running.iter_mut() {
        let task = &tasks[running.task];
        running.share = match total > 1.0 {
            false => task.share,
            true if yielding > 0.0 && kept < 1.0 && yields(task) => task.share * (1.0 - kept) / yielding,
            true if yielding > 0.0 && kept < 1.0 => task.share,
            true => task.share / total,
        };
    }
}

fn speed_beside(profile: &Profile, tasks: &[Task], running: &[Running], number: usize) -> f64 {
    let own = running[number];
    let resource = tasks[own.task].resource;
    let others = running.iter().filter(|other| other.task != own.task);
    let slowdown: f64 =
        others.map(|other| profile.slowdown(resource, tasks[other.task].resource, other.share)).product();
    (profile.speed(resource, own.share) / slowdown).max(LEAST_SPEED)
}

/// Slows those that want more than their fair part of a bandwidth.
fn divide(tasks: &[Task], running: &mut [Running], bandwidth: f64, amount: impl Fn(&Task) -> f64) {
    let wanted = |running: &Running| {
        let task = &tasks[running.task];
        amount(task) / seconds(task) * running.speed
    };
    if running.iter().map(wanted).sum::<f64>() <= bandwidth {
        return;
    }
    let level = fair_level(running.iter().map(wanted), bandwidth);
    for running in running {
        let wanted = wanted(running);
        if wanted > level {
            running.speed = (running.speed * level / wanted).max(LEAST_SPEED);
        }
    }
}

/// The most that anyone gets of a bandwidth that all together want more than.
fn fair_level(wanted: impl Iterator<Item = f64> + Clone, bandwidth: f64) -> f64 {
    let mut level = bandwidth / wanted.clone().count() as f64;
    loop {
        let modest: f64 = wanted.clone().filter(|wanted| *wanted <= level).sum();
        let num_greedy = wanted.clone().filter(|wanted| *wanted > level).count();
        // Raising the level makes more of them modest, and each of them only once.
        let raised = (bandwidth - modest) / num_greedy.max(1) as f64;
        if num_greedy == 0 || raised <= level {
            return level;
        }
        level = raised;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_modest_leave_goes_to_the_greedy() {
        assert_eq!(fair_level([1.0, 5.0, 9.0].into_iter(), 10.0), 4.5);
        assert_eq!(fair_level([9.0, 9.0].into_iter(), 10.0), 5.0);
        assert_eq!(fair_level([1.0, 2.0, 30.0].into_iter(), 10.0), 7.0);
    }
}
