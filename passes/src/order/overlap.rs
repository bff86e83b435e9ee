//! List scheduling: an order in which streams keep each other busy.
//!
//! Of the launches whose dependencies are placed, the one that can start first, by the clocks of its stream and its
//! dependencies, goes next. Of several:
//!
//! 1. the one with the least work left until some other stream is fed: the attention of nano-batch 0 starts before the
//!    products of nano-batch 1, that of nano-batch 1 before everything that only its own stream waits for;
//! 2. then the one of the earliest rows: when all is fed, one nano-batch is finished before the next is gone on with, so
//!    that all its products stand beside the attention of the next;
//! 3. then the one with the longest chain of work behind it, and the first in the text.
//!
//! For two nano-batches this gives the order of NanoFlow's pipeline for models without collectives (section 4.1.4 of
//! the paper): the products of nano-batch 1 before its attention beside the attention of nano-batch 0, then those of
//! nano-batch 0 behind its attention beside the attention of nano-batch 1.
//!
//! Costs are relative weights by operator, times the parts of the batch a range has. They only need to rank: products
//! and attention of decode rows are long, everything else is short. A launch is taken to run alone at full speed.

use std::cmp::Reverse;

use trefoil_ir::graph::Range;
use trefoil_ir::ids::Id;
use trefoil_ir::op::Op;

use super::Candidate;

/// The numbers of the candidates in the order found. `waits_for` holds, for each, numbers smaller than its own.
pub(super) fn order(candidates: &[Candidate], waits_for: &[Vec<usize>]) -> Vec<usize> {
    let mut list = List::new(candidates, waits_for);
    while let Some((start, number)) = list.next() {
        list.place(start, number);
    }
    list.order
}

struct List<'a> {
    candidates: &'a [Candidate<'a>],
    waits_for: &'a [Vec<usize>],
    costs: Vec<u64>,
    /// For each candidate, the cost of the most expensive chain that begins with it.
    chains: Vec<u64>,
    /// For each candidate, all that it waits for, directly or not.
    ancestors: Vec<Vec<usize>>,
    free_at: Vec<u64>,
    done_at: Vec<Option<u64>>,
    order: Vec<usize>,
}

impl<'a> List<'a> {
    fn new(candidates: &'a [Candidate<'a>], waits_for: &'a [Vec<usize>]) -> Self {
        let cost = |candidate: &Candidate| cost(&candidate.launch.op, candidate.launch.range);
        let costs: Vec<_> = candidates.iter().map(cost).collect();
        let num_streams = candidates.iter().map(|candidate| candidate.launch.stream.index() + 1).max().unwrap_or(0);
        Self {
            candidates,
            waits_for,
            chains: chains(&costs, waits_for),
            ancestors: ancestors(waits_for),
            costs,
            free_at: vec![0; num_streams],
            done_at: vec![None; candidates.len()],
            order: vec![],
        }
    }

    /// The best candidate that can be placed, with the time at which it would start.
    fn next(&self) -> Option<(u64, usize)> {
        let to_feed = self.to_feed();
        let waiting = (0..self.candidates.len()).filter(|number| self.done_at[*number].is_none());
        let ready = waiting.filter_map(|number| self.start(number).map(|start| (start, number)));
        ready.min_by_key(|(start, number)| {
            let rows = self.candidates[*number].launch.range.from;
            (*start, self.work_until_fed(*number, &to_feed), rows, Reverse(self.chains[*number]), *number)
        })
    }

    fn place(&mut self, start: u64, number: usize) {
        let done = start + self.costs[number];
        let stream = self.stream(number);
        self.free_at[stream] = done;
        self.done_at[number] = Some(done);
        self.order.push(number);
    }

    fn stream(&self, number: usize) -> usize {
        self.candidates[number].launch.stream.index()
    }

    /// When a candidate could start; `None` while it waits for one that is not placed.
    fn start(&self, number: usize) -> Option<u64> {
        let mut dependencies = self.waits_for[number].iter().map(|earlier| self.done_at[*earlier]);
        let ready = dependencies.try_fold(0, |latest, done| Some(latest.max(done?)))?;
        Some(ready.max(self.free_at[self.stream(number)]))
    }

    /// The candidates that wait for others, with the work left until they can start.
    fn to_feed(&self) -> Vec<(usize, u64)> {
        let waiting = (0..self.candidates.len()).filter(|number| self.start(*number).is_none());
        let is_left = |number: &&usize| self.done_at[**number].is_none();
        let work = |number: usize| self.ancestors[number].iter().filter(is_left).map(|own| self.costs[*own]).sum();
        waiting.map(|number| (number, work(number))).collect()
    }

    fn work_until_fed(&self, number: usize, to_feed: &[(usize, u64)]) -> u64 {
        let fed = to_feed.iter().filter(|(other, _)| {
            self.stream(*other) != self.stream(number) && self.ancestors[*other].contains(&number)
        });
        fed.map(|(_, work)| *work).min().unwrap_or(u64::MAX)
    }
}

fn chains(costs: &[u64], waits_for: &[Vec<usize>]) -> Vec<u64> {
    let mut chains = costs.to_vec();
    for later in (0..costs.len()).rev() {
        for earlier in &waits_for[later] {
            chains[*earlier] = chains[*earlier].max(costs[*earlier] + chains[later]);
        }
    }
    chains
}

fn ancestors(waits_for: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut ancestors: Vec<Vec<usize>> = vec![];
    for earlier in waits_for {
        let mut all: Vec<_> = earlier.iter().flat_map(|number| &ancestors[*number]).chain(earlier).copied().collect();
        all.sort_unstable();
        all.dedup();
        ancestors.push(all);
    }
    ancestors
}

fn cost(op: &Op, range: Range) -> u64 {
    weight(op) * (range.to.index() - range.from.index()) as u64
}

fn weight(op: &Op) -> u64 {
    match op {
        Op::Linear { .. } | Op::ExpertLinear { .. } | Op::Attention { .. } | Op::DecodeAttention { .. } => 12,
        Op::AllReduce { .. } | Op::AllGather { .. } => 8,
        Op::PrefillAttention { .. } => 4,
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Rope { .. }
        | Op::Join { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::Route { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::KvWrite { .. }
        | Op::AddRmsNorm { .. } => 1,
        Op::Repeat { .. } | Op::Columns { .. } => 0,
    }
}
