//! The order of a layer's launches and their shares, by simulated annealing (Kirkpatrick, Gelatt and Vecchi, 1983) with
//! the simulator as the judge.
//!
//! NanoFlow finds the order with a mixed-integer program over starts and ends (section 4.1.2) and the shares with a
//! second one (4.1.3). Their relaxations say next to nothing (the authors' own run ended 84 % from its bound), so a
//! solver only enumerates. A change of place or share takes the simulator some tens of microseconds to judge, with
//! interference and bandwidth, which no linear program holds; and order and shares are changed together.

use super::random::Random;
use super::stack::{Choice, Piece, Stack};
use crate::profile::{Profile, ResourceKey};

/// One stack on its way to a good choice.
#[derive(Debug, Clone)]
pub(super) struct Annealer {
    random: Random,
    current: Choice,
    current_seconds: f64,
    pub(super) best: Choice,
    /// Seconds of a layer.
    pub(super) best_seconds: f64,
}

/// Temperatures as parts of the seconds of a layer: at first a choice that is 1 % worse is kept one time in three.
const WARM: f64 = 0.01;
const COLD: f64 = 0.0005;

impl Annealer {
    pub(super) fn new(stack: &Stack, profile: &Profile, start: Choice, seed: u64) -> Self {
        let seconds = stack.period(profile, &start);
        Self {
            random: Random::new(seed),
            current: start.clone(),
            current_seconds: seconds,
            best: start,
            best_seconds: seconds,
        }
    }

    /// Judges so many changes, from warm to cold, or as many as it may go on for; gives their number.
    pub(super) fn run(&mut self, stack: &Stack, profile: &Profile, changes: u64, go_on: &dyn Fn() -> bool) -> u64 {
        self.current.clone_from(&self.best);
        self.current_seconds = self.best_seconds;
        for change in 0..changes {
            if change % 64 == 0 && !go_on() {
                return change;
            }
            let cooled = change as f64 / changes as f64;
            let temperature = self.best_seconds * WARM * (COLD / WARM).powf(cooled);
            self.try_change(stack, profile, temperature);
        }
        changes
    }

    fn try_change(&mut self, stack: &Stack, profile: &Profile, temperature: f64) {
        let mut changed = self.current.clone();
        match self.random.below(20) {
            0..2 => self.change_stream(stack, &mut changed),
            2..10 => self.change_share(stack, &mut changed),
            _order => self.move_launch(stack, &mut changed),
        }
        if changed == self.current {
            return;
        }
        let seconds = stack.period(profile, &changed);
        let worse = seconds - self.current_seconds;
        if worse > 0.0 && self.random.share() >= (-worse / temperature).exp() {
            return;
        }
        (self.current, self.current_seconds) = (changed, seconds);
        if seconds < self.best_seconds {
            self.best.clone_from(&self.current);
            self.best_seconds = seconds;
        }
    }

    /// Puts a launch somewhere else, and with it what it follows, or what follows it, on the way there.
    fn move_launch(&mut self, stack: &Stack, choice: &mut Choice) {
        let number = self.random.below(stack.bodies.len());
        let (body, order) = (&stack.bodies[number], &mut choice.orders[number]);
        let at = self.random.below(order.len());
        // Near places more often than far ones.
        let far = self.random.share().powi(2) * order.len() as f64;
        let to = if self.random.below(2) == 0 { at.saturating_sub(1 + far as usize) } else { at + 1 + far as usize };
        let to = to.min(order.len() - 1);
        if to < at {
            let moved = drawn_along(order[to..=at].iter().rev(), |one, moved| body.within[*moved].contains(one));
            reorder(&mut order[to..=at], |piece| !moved.contains(piece));
        } else {
            let moved = drawn_along(order[at..=to].iter(), |one, moved| body.within[*one].contains(moved));
            reorder(&mut order[at..=to], |piece| moved.contains(piece));
        }
    }

    /// Gives one launch, or all of its node, another share.
    fn change_share(&mut self, stack: &Stack, choice: &mut Choice) {
        let number = self.random.below(stack.bodies.len());
        let (body, shares) = (&stack.bodies[number], &mut choice.shares[number]);
        let chosen = self.random.below(shares.len());
        if !body.pieces[chosen].has_share {
            return;
        }
        let share = level(body.pieces[chosen].load.bound_by, &mut self.random);
        let all_of_node = self.random.share() < 0.5;
        for (at, piece) in body.pieces.iter().enumerate() {
            let is_of_node = piece.has_share && piece.node == body.pieces[chosen].node;
            if at == chosen || all_of_node && is_of_node {
                shares[at] = share;
            }
        }
    }

    /// Puts a node on another stream.
    fn change_stream(&mut self, stack: &Stack, choice: &mut Choice) {
        let number = self.random.below(stack.bodies.len());
        let (body, streams) = (&stack.bodies[number], &mut choice.streams[number]);
        let chosen = self.random.below(streams.len());
        let stream = self.random.below(stack.num_streams);
        let fits = |piece: &Piece| piece.may_be_on[stream];
        if body.pieces.iter().any(|piece| piece.node == body.pieces[chosen].node && !fits(piece)) {
            return;
        }
        for (piece, own) in body.pieces.iter().zip(streams.iter_mut()) {
            if piece.node == body.pieces[chosen].node {
                *own = stream;
            }
        }
    }
}

/// The first of the launches, and those that must keep their place before or after one that is drawn along.
fn drawn_along<'a>(launches: impl Iterator<Item = &'a usize>, is_bound: impl Fn(&usize, &usize) -> bool) -> Vec<usize> {
    let mut moved: Vec<usize> = vec![];
    for launch in launches {
        if moved.is_empty() || moved.iter().any(|other| is_bound(launch, other)) {
            moved.push(*launch);
        }
    }
    moved
}

/// Puts the launches that come last behind the others, both in the order they had.
fn reorder(launches: &mut [usize], comes_last: impl Fn(&usize) -> bool) {
    launches.sort_by_key(comes_last);
}

/// A share in tenths: products need most of the device, collectives little of it.
fn level(resource: ResourceKey, random: &mut Random) -> f32 {
    let (least, most) = match resource {
        ResourceKey::Compute => (2, 10),
        ResourceKey::Memory => (1, 10),
        ResourceKey::Network => (1, 8),
    };
    (least + random.below(most - least + 1)) as f32 / 10.0
}
