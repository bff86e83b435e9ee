//! What the workers do for each kind of launch: how it divides into work items, and the kernels' calls.

use std::ops::Range;
use std::sync::Arc;

use trefoil_kernels::cpu as kernels;
use trefoil_kernels::cpu::PackedMatrix;

use super::convert;
use super::memory::Memory;
use super::sampling::SampledRows;
use super::step::CurrentStep;
use super::team::{Split, Task};
use crate::launch::{
    Add, AddRmsNorm, Apply, Attention, Collective, Combine, Embed, ExpertLinear, GatedMul, Join, KvWrite, LayerNorm,
    Linear, Region, RmsNorm, Rope, Route, Rows, Site, StepTable,
};
use crate::trace::Label;

/// Work below this is done by the leader alone: handing it out costs a few microseconds when the others are awake.
const WORTH_SHARING_NS: f64 = 10_000.0;
/// Chunks per worker: what remains when one worker finishes last is a sixteenth of its share.
const CHUNKS_PER_WORKER: usize = 16;
/// Rough speed of one thread, to tell work that is worth sharing from work that is not: bytes and operations per
/// nanosecond.
const BYTES_PER_NS: f64 = 16.0;
const FLOPS_PER_NS: f64 = 100.0;

/// A launch as its queue holds it.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) site: Site,
    pub(super) work: Work,
    pub(super) step: Arc<CurrentStep>,
    /// How many of its stream's workers it may take; `None` for all.
    pub(super) most_workers: Option<usize>,
}

/// A launch's operator.
#[derive(Debug)]
pub(super) enum Work {
    Embed(Embed),
    RmsNorm(RmsNorm),
    LayerNorm(LayerNorm),
    AddRmsNorm(AddRmsNorm),
    Linear(Linear),
    Rope(Rope),
    KvWrite(KvWrite),
    Attention(Attention),
    Join(Join),
    Add(Add),
    GatedMul(GatedMul),
    Apply(Apply),
    Route(Route),
    ExpertLinear(ExpertLinear),
    Combine(Combine),
    Rows(Rows),
    /// Among one rank: a copy.
    Exchange(Collective),
    Sample(Arc<SampledRows>),
}

impl Task for Launch {
    type Context = Memory;

    fn split(&self, memory: &Memory, num_workers: usize) -> Split {
        let num_items = self.num_items(memory);
        let most_workers = self.most_workers.unwrap_or(num_workers);
        if num_workers == 1 || self.cost_ns(memory) < WORTH_SHARING_NS {
            return Split::whole(num_items);
        }
        split_among(num_items, num_workers, most_workers)
    }

    fn run(&self, memory: &Memory, items: Range<usize>) {
        match &self.work {
            Work::Embed(args) => self.embed(memory, args, items),
            Work::RmsNorm(args) => rms_norm(memory, args, items),
            Work::LayerNorm(args) => layer_norm(memory, args, items),
            Work::AddRmsNorm(args) => add_rms_norm(memory, args, items),
            Work::Linear(args) => linear(memory, args, items),
            Work::Rope(args) => self.rope(memory, args, items),
            Work::KvWrite(args) => self.kv_write(memory, args, items),
            Work::Attention(args) => self.attention(memory, args, items),
            Work::Join(args) => join(memory, args, items),
            Work::Add(args) => add(memory, args, items),
            Work::GatedMul(args) => gated_mul(memory, args, items),
            Work::Apply(args) => apply(memory, args, items),
            Work::Route(args) => self.route(memory, args, items),
            Work::ExpertLinear(args) => expert_linear(memory, args, items),
            Work::Combine(args) => combine(memory, args, items),
            Work::Rows(args) => self.rows(memory, args, items),
            Work::Exchange(args) => kernels::copy(memory.arena.read(args.x), memory.arena.write(args.out), items),
            Work::Sample(rows) => rows.run(memory, items),
        }
    }

    fn site(&self) -> Site {
        self.site
    }

    fn label(&self) -> Label {
        let Site { node, nano, layer, .. } = self.site;
        Label { node, nano, layer, num_rows: self.out().num_rows, plan: self.step.plan, step: self.step.number }
    }
}

impl Launch {
    /// What it writes (for a KV write, the keys it reads): its rows are the launch's rows.
    fn out(&self) -> Region {
        match &self.work {
            Work::Embed(args) => args.out,
            Work::RmsNorm(args) => args.out,
            Work::LayerNorm(args) => args.out,
            Work::AddRmsNorm(args) => args.out,
            Work::Linear(args) => args.out,
            Work::Rope(args) => args.out,
            Work::KvWrite(args) => args.k,
            Work::Attention(args) => args.out,
            Work::Join(args) => args.out,
            Work::Add(args) => args.out,
            Work::GatedMul(args) => args.out,
            Work::Apply(args) => args.out,
            Work::Route(args) => args.shares,
            Work::ExpertLinear(args) => args.out,
            Work::Combine(args) => args.out,
            Work::Rows(args) => args.out,
            Work::Exchange(args) => args.out,
            Work::Sample(rows) => rows.logits(),
        }
    }

    fn num_items(&self, memory: &Memory) -> usize {
        match &self.work {
            Work::Linear(args) => kernels::linear_items(args.x.num_rows as usize, matrix(memory, args)),
            Work::ExpertLinear(args) => {
                kernels::expert_linear_items(memory.arena.read(args.experts), memory.weights.experts(args.weight))
            }
            Work::Attention(args) => self.attention_items(memory, args),
            Work::Sample(rows) => rows.num_rows(),
            Work::Embed(_) | Work::Rope(_) | Work::KvWrite(_) => self.num_rows(),
            Work::RmsNorm(_) | Work::LayerNorm(_) | Work::AddRmsNorm(_) => self.num_rows(),
            Work::Add(_) | Work::GatedMul(_) | Work::Apply(_) | Work::Rows(_) | Work::Exchange(_) => self.num_rows(),
            Work::Route(_) | Work::Combine(_) | Work::Join(_) => self.num_rows(),
        }
    }

    fn num_rows(&self) -> usize {
        self.out().num_rows as usize
    }

    /// A rough estimate of the time that one thread takes.
    fn cost_ns(&self, memory: &Memory) -> f64 {
        let out = self.out();
        let elements = f64::from(out.num_rows) * f64::from(out.num_columns);
        match &self.work {
            Work::Linear(args) => {
                let streamed = matrix(memory, args).bytes() as f64 / BYTES_PER_NS;
                streamed.max(2.0 * elements * f64::from(args.x.num_columns) / FLOPS_PER_NS)
            }
            Work::ExpertLinear(args) => expert_cost_ns(memory, args),
            Work::Attention(args) => self.attention_cost_ns(memory, args),
            // Every expert is looked at for each one chosen.
            Work::Route(args) => elements * f64::from(args.x.num_columns),
            // Reading a packed table is one cache line per element.
            Work::Embed(_) => elements * 64.0 / BYTES_PER_NS,
            // A look for the largest value, a sum of exponentials, a search.
            Work::Sample(_) => elements * 2.0,
            Work::RmsNorm(_) | Work::LayerNorm(_) | Work::AddRmsNorm(_) => elements * 16.0 / BYTES_PER_NS,
            Work::Rope(_) | Work::KvWrite(_) | Work::Join(_) | Work::Rows(_) | Work::Exchange(_) => {
                elements * 16.0 / BYTES_PER_NS
            }
            Work::Add(_) | Work::GatedMul(_) | Work::Apply(_) => elements * 16.0 / BYTES_PER_NS,
            Work::Combine(args) => f64::from(args.x.num_rows) * f64::from(args.x.num_columns) * 4.0 / BYTES_PER_NS,
        }
    }

    fn attention_cost_ns(&self, memory: &Memory, args: &Attention) -> f64 {
        let pages = memory.caches.layer(args.cache);
        let token_bytes = (pages.kv_heads() * (pages.head() + pages.value()) * pages.element().bytes()) as f64;
        let costs = self.step.spans(args.q).map(|span| {
            let (rows, positions) = (span.num_rows as f64, (span.position + span.num_rows) as f64);
            let flops = 2.0 * rows * positions * f64::from(args.q.num_columns + args.out.num_columns);
            (positions * token_bytes / BYTES_PER_NS).max(flops / FLOPS_PER_NS)
        });
        costs.sum()
    }

    /// Ids are looked up when the launch runs: some are sampled by the step before.
    fn embed(&self, memory: &Memory, args: &Embed, items: Range<usize>) {
        let table = memory.weights.matrix(args.table);
        for row in items {
            let row = args.out.first_row + row as u32;
            let id = match args.ids {
                StepTable::Ids => memory.token(self.step.tables.ids[row as usize]),
                StepTable::Positions | StepTable::Last => self.step.numbers(args.ids)[row as usize],
            };
            let out = memory.arena.write(Region { first_row: row, num_rows: 1, ..args.out });
            kernels::embed(&[id], table, out, 0..1);
        }
    }

    fn rope(&self, memory: &Memory, args: &Rope, items: Range<usize>) {
        let positions = &self.step.numbers(args.positions)[rows_of(args.x)];
        let (x, out) = (memory.arena.read(args.x), memory.arena.write(args.out));
        kernels::rope(x, positions, memory.rope(args.table), args.head as usize, out, items);
    }

    fn kv_write(&self, memory: &Memory, args: &KvWrite, items: Range<usize>) {
        let slots = &self.step.kv_slots[rows_of(args.k)];
        let (k, v) = (memory.arena.read(args.k), memory.arena.read(args.v));
        kernels::kv_write(k, v, slots, memory.caches.layer(args.cache), items);
    }

    fn attention_items(&self, memory: &Memory, args: &Attention) -> usize {
        let pages = memory.caches.layer(args.cache);
        let heads = args.q.num_columns as usize / pages.head();
        self.step.spans(args.q).map(|span| kernels::attention_items(&[span], heads, pages)).sum()
    }

    /// Items are counted through the spans in order; each span is its own call, so no list of them is made.
    fn attention(&self, memory: &Memory, args: &Attention, items: Range<usize>) {
        let pages = memory.caches.layer(args.cache);
        let heads = args.q.num_columns as usize / pages.head();
        let (q, out) = (memory.arena.read(args.q), memory.arena.write(args.out));
        let slopes = args.scores.alibi.then(|| memory.slopes(heads));
        let scores = kernels::Scores {
            scale: args.scores.scale,
            softcap: args.scores.softcap,
            window: args.scores.window as usize,
            sinks: args.scores.sinks.map(|sinks| memory.weights.vector(sinks)),
            slopes: slopes.as_deref(),
        };
        let mut first = 0;
        for span in self.step.spans(args.q) {
            let end = first + kernels::attention_items(&[span], heads, pages);
            let mine = items.start.max(first)..items.end.min(end);
            if !mine.is_empty() {
                kernels::attention(q, &[span], pages, &scores, out, mine.start - first..mine.end - first);
            }
            first = end;
        }
    }

    fn route(&self, memory: &Memory, args: &Route, items: Range<usize>) {
        let bias = args.bias.map(|bias| memory.weights.vector(bias));
        let (experts, shares) = (memory.arena.write(args.experts), memory.arena.write(args.shares));
        let groups = args.groups.map(convert::groups);
        let by =
            kernels::Choice { scoring: convert::scoring(args.scoring), renormalize: args.renormalize, bias, groups };
        kernels::route(memory.arena.read(args.x), &by, experts, shares, items.clone());
        let (Some(loads), Some(layer)) = (&memory.loads, self.site.layer) else { return };
        for row in items {
            let chosen = Region { first_row: args.experts.first_row + row as u32, num_rows: 1, ..args.experts };
            loads.count(usize::from(layer), self.step.number, memory.arena.row_mut(chosen, 0));
        }
    }

    fn rows(&self, memory: &Memory, args: &Rows, items: Range<usize>) {
        let picked = &self.step.numbers(args.at)[rows_of(args.out)];
        kernels::gather_rows(memory.arena.read(args.x), picked, memory.arena.write(args.out), items);
    }
}

/// Chunks of work for at most `most_workers` of a stream's workers. Those are not named: a worker takes a chunk, so as
/// many can join as there are chunks.
fn split_among(num_items: usize, num_workers: usize, most_workers: usize) -> Split {
    if most_workers < num_workers {
        Split::into(num_items, most_workers)
    } else {
        Split::into(num_items, num_workers * CHUNKS_PER_WORKER)
    }
}

fn rms_norm(memory: &Memory, args: &RmsNorm, items: Range<usize>) {
    let (x, out) = (memory.arena.read(args.x), memory.arena.write(args.out));
    let weight = args.weight.map(|weight| memory.weights.vector(weight));
    kernels::rms_norm(x, weight, args.eps, args.group as usize, out, items);
}

fn layer_norm(memory: &Memory, args: &LayerNorm, items: Range<usize>) {
    let (x, out) = (memory.arena.read(args.x), memory.arena.write(args.out));
    let [weight, bias] = [args.weight, args.bias].map(|vector| vector.map(|vector| memory.weights.vector(vector)));
    kernels::layer_norm(x, weight, bias, args.eps, args.group as usize, out, items);
}

fn add_rms_norm(memory: &Memory, args: &AddRmsNorm, items: Range<usize>) {
    let (a, b) = (memory.arena.read(args.a), memory.arena.read(args.b));
    let (sum, out) = (memory.arena.write(args.sum), memory.arena.write(args.out));
    kernels::add_rms_norm(a, b, memory.weights.vector(args.weight), args.eps, sum, out, items);
}

fn matrix<'a>(memory: &'a Memory, args: &Linear) -> &'a PackedMatrix {
    memory.weights.matrix(args.weight)
}

fn linear(memory: &Memory, args: &Linear, items: Range<usize>) {
    let bias = args.bias.map(|bias| memory.weights.vector(bias));
    let (x, out) = (memory.arena.read(args.x), memory.arena.write(args.out));
    kernels::linear(x, matrix(memory, args), bias, out, items);
}

fn join(memory: &Memory, args: &Join, items: Range<usize>) {
    let (a, b) = (memory.arena.read(args.a), memory.arena.read(args.b));
    kernels::join(a, b, args.heads as usize, memory.arena.write(args.out), items);
}

fn add(memory: &Memory, args: &Add, items: Range<usize>) {
    let (a, b) = (memory.arena.read(args.a), memory.arena.read(args.b));
    kernels::add(a, b, memory.arena.write(args.out), items);
}

fn gated_mul(memory: &Memory, args: &GatedMul, items: Range<usize>) {
    let how = kernels::Gate { by: convert::function(args.by), limit: args.limit, shift: args.shift };
    let (gate, up) = (memory.arena.read(args.gate), memory.arena.read(args.up));
    kernels::gated_mul(gate, up, &how, memory.arena.write(args.out), items);
}

fn apply(memory: &Memory, args: &Apply, items: Range<usize>) {
    let (x, out) = (memory.arena.read(args.x), memory.arena.write(args.out));
    kernels::apply(x, convert::function(args.by), out, items);
}

fn expert_linear(memory: &Memory, args: &ExpertLinear, items: Range<usize>) {
    let (x, experts) = (memory.arena.read(args.x), memory.arena.read(args.experts));
    let weights = memory.weights.experts(args.weight);
    let bias = args.bias.map(|bias| memory.weights.vector(bias));
    kernels::expert_linear(x, experts, weights, bias, memory.arena.write(args.out), items);
}

/// As of a product with the weights of as many experts as rows can go to.
fn expert_cost_ns(memory: &Memory, args: &ExpertLinear) -> f64 {
    let weights = memory.weights.experts(args.weight);
    let Some(one) = weights.first() else { return 0.0 };
    let num_pairs = f64::from(args.experts.num_rows) * f64::from(args.experts.num_columns);
    let streamed = num_pairs.min(weights.len() as f64) * one.bytes() as f64 / BYTES_PER_NS;
    streamed.max(2.0 * num_pairs * (one.inputs() * one.outputs()) as f64 / FLOPS_PER_NS)
}

fn combine(memory: &Memory, args: &Combine, items: Range<usize>) {
    let (x, shares) = (memory.arena.read(args.x), memory.arena.read(args.shares));
    kernels::combine(x, shares, memory.arena.write(args.out), items);
}

/// A region's rows, as indices into a per-row table.
fn rows_of(region: Region) -> Range<usize> {
    region.first_row as usize..(region.first_row + region.num_rows) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_share_takes_fewer_workers() {
        for num_items in [1, 7, 100, 4096] {
            for (num_workers, most_workers) in [(8, 1), (8, 3), (4, 2), (2, 1)] {
                let split = split_among(num_items, num_workers, most_workers);
                assert!(split.num_chunks() <= most_workers, "{num_items} items, {most_workers} of {num_workers}");
                assert_eq!(split.num_items, num_items);
            }
            assert_eq!(split_among(num_items, 4, 4), split_among(num_items, 4, 9), "a stream has no more than it has");
        }
        assert!(split_among(4096, 4, 4).num_chunks() > 4, "all of a stream's workers balance among each other");
    }
}
