//! Finds a plan: the number and size of nano-batches, the order of their launches, their streams and shares, and the
//! form of the products that sum over ranks, for one graph, configuration, device and mix of rows.
//!
//! In two stages, as NanoFlow does (section 4.1), with the simulator as the judge of both:
//!
//! 1. [`shape`] lists the ways to cut a layer. All of them are tried a little, the better half more, and so on
//!    (successive halving: Jamieson and Talwalkar, AISTATS 2016).
//! 2. [`anneal`] finds an order and shares for a shape.
//!
//! [`bound`] tells, by a linear program, how much a better search could still gain. The best so far is kept at any time:
//! whoever asks says when to stop. The same seed and number of judgements give the same plan, on any number of threads.
//!
//! A plan that is not faster than the sequential one in the simulation of its compiled schedule is not returned.
//!
//! | code | mistake |
//! |---|---|
//! | T1601 | no plan was found that beats the sequential one |
//! | T1602 | the graph has no layers to plan |

mod anneal;
mod bound;
mod random;
mod shape;
mod stack;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use trefoil_ir::bind::bind;
use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::graph::{Graph, Literal};
use trefoil_ir::ids::{Id, StreamId};
use trefoil_ir::schedule::Streams;

use crate::cost::{Mix, Model};
use crate::pipeline::{PassError, compile, run_until};
use crate::plan::{LaunchName, List, Order, Plan, Rule, Share, Target};
use crate::profile::Profile;
use crate::simulate;
use anneal::Annealer;
use shape::{Frame, Shape};
use stack::{Choice, Stack};

/// What a plan is sought for.
pub struct Goal<'a> {
    /// The graph, as loaded.
    pub graph: &'a Graph,
    /// The configuration.
    pub config: &'a (dyn Fn(&str) -> Option<Literal> + Sync),
    /// The device.
    pub profile: &'a Profile,
    /// How many of them share the model.
    pub ranks: u32,
    /// The rows of a step.
    pub mix: Mix,
    /// What the plan is to be called.
    pub name: &'a str,
}

/// How long and how to search.
pub struct Options<'a> {
    /// Another seed, another search.
    pub seed: u64,
    /// Choices that the simulator judges in all.
    pub judgements: u64,
    /// Threads to search on.
    pub threads: usize,
    /// Asked often; the best so far is returned once it says no.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
    /// Told of every round and every better plan.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// How far a search has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Choices judged so far.
    pub judged: u64,
    /// Choices to be judged in all.
    pub judgements: u64,
    /// Shapes that are still tried.
    pub num_shapes: usize,
    /// Seconds of a layer by the best plan so far.
    pub layer_seconds: f64,
    /// Seconds of a layer by the sequential plan.
    pub sequential_seconds: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The plan.
    pub plan: Plan,
    /// The same cuts without overlap: one stream, launches as written.
    pub without_overlap: Plan,
    /// How it cuts a layer, in words.
    pub shape: String,
    /// Seconds of a step by its compiled schedule.
    pub seconds: f64,
    /// Seconds of a step by the sequential plan.
    pub sequential_seconds: f64,
    /// Seconds of a step by the same cuts without overlap.
    pub without_overlap_seconds: f64,
    /// Seconds of a layer in the middle of the model.
    pub layer_seconds: f64,
    /// Seconds of a layer by the sequential plan.
    pub sequential_layer_seconds: f64,
    /// No plan needs fewer seconds for a layer than these.
    pub bound_seconds: f64,
    /// Choices judged.
    pub judged: u64,
}

impl Found {
    /// The part of a layer's time that no plan, or a better one, might save.
    pub fn gap(&self) -> f64 {
        1.0 - self.bound_seconds / self.layer_seconds
    }
}

/// A shape that is being tried.
struct Contender {
    shape: Shape,
    stack: Stack,
    annealer: Annealer,
}

/// How many of the best plans are compiled for a last judgement.
const NUM_FINALISTS: usize = 3;

/// Rounds of successive halving: the part of the shapes that go on, and the part of the judgements they get together.
const ROUNDS: [(f64, f64); 5] = [(1.0, 0.1), (0.4, 0.15), (0.15, 0.2), (0.05, 0.25), (0.02, 0.3)];

/// Finds a plan.
///
/// # Errors
///
/// The graph and configuration do not go together, have no layers, or no plan found is faster than the sequential one.
pub fn search(goal: &Goal<'_>, options: &Options<'_>) -> Result<Found, Vec<Diagnostic>> {
    let sequential = sequential_plan(goal.ranks);
    let searcher = Searcher::new(goal, options, &sequential)?;
    let mut contenders = searcher.contenders()?;
    for (number, (kept, part)) in ROUNDS.into_iter().enumerate() {
        contenders.sort_by(|a, b| a.annealer.best_seconds.total_cmp(&b.annealer.best_seconds));
        let count =
            ((searcher.num_shapes as f64 * kept).ceil() as usize).clamp(2.min(contenders.len()), contenders.len());
        if number > 0 {
            contenders.truncate(count);
        }
        let each = (options.judgements as f64 * part / contenders.len() as f64) as u64;
        searcher.round(&mut contenders, each);
    }
    contenders.sort_by(|a, b| a.annealer.best_seconds.total_cmp(&b.annealer.best_seconds));
    searcher.found(&contenders)
}

/// One stream, nothing cut, launches as written.
pub fn sequential_plan(ranks: u32) -> Plan {
    let frame = Frame::named("sequential", ranks);
    Plan { device: None, ..frame.plan(&Shape::uncut(), 1, Frame::one_stream()) }
}

struct Searcher<'a> {
    goal: &'a Goal<'a>,
    options: &'a Options<'a>,
    frame: Frame,
    num_shapes: usize,
    sequential_seconds: f64,
    bound_seconds: f64,
    judged: AtomicU64,
    best: Mutex<f64>,
}

impl<'a> Searcher<'a> {
    fn new(goal: &'a Goal<'a>, options: &'a Options<'a>, sequential: &Plan) -> Result<Self, Vec<Diagnostic>> {
        let fused = run_until(goal.graph.clone(), sequential, "fuse").map_err(refused)?;
        let frame = Frame::of(&fused, goal.ranks, &goal.profile.name, goal.name);
        let grouped = run_until(goal.graph.clone(), sequential, "stream_groups").map_err(refused)?;
        let stack = stack_of(goal, &grouped)?;
        let sequential_seconds = stack.period(goal.profile, &stack.as_written(|_| 1.0));
        let bound_seconds = bound::least_seconds(goal.profile, stack.least_seconds()).unwrap_or(0.0);
        let num_shapes = frame.shapes(&goal.mix, goal.profile.cut_rows).len();
        let (judged, best) = (AtomicU64::new(0), Mutex::new(sequential_seconds));
        Ok(Self { goal, options, frame, num_shapes, sequential_seconds, bound_seconds, judged, best })
    }

    fn contenders(&self) -> Result<Vec<Contender>, Vec<Diagnostic>> {
        let shapes = self.frame.shapes(&self.goal.mix, self.goal.profile.cut_rows);
        shapes.into_iter().enumerate().map(|(number, shape)| self.contender(number, shape)).collect()
    }

    fn contender(&self, number: usize, shape: Shape) -> Result<Contender, Vec<Diagnostic>> {
        let streams = self.frame.streams();
        let plan = Plan { order: Order::Overlap, ..self.plan(&shape, streams.clone()) };
        let ordered = run_until(self.goal.graph.clone(), &plan, "order").map_err(refused)?;
        let stack = stack_of(self.goal, &ordered)?;
        let shares: Vec<f32> = streams.values().map(|stream| stream.share).collect();
        let start = stack.as_scheduled(&ordered, |piece| if piece.has_share { shares[piece.stream] } else { 1.0 });
        let seed = self.options.seed.wrapping_mul(0x0100_0000_01B3).wrapping_add(number as u64);
        let annealer = Annealer::new(&stack, self.goal.profile, start, seed);
        Ok(Contender { shape, stack, annealer })
    }

    fn plan(&self, shape: &Shape, streams: Streams) -> Plan {
        self.frame.plan(shape, self.goal.profile.cut_rows, streams)
    }

    /// Every contender judges so many changes. Which thread does which does not matter to any of them.
    fn round(&self, contenders: &mut [Contender], each: u64) {
        let num_shapes = contenders.len();
        let next = Mutex::new(contenders.iter_mut());
        let work = || {
            while let Some(contender) = next.lock().ok().and_then(|mut left| left.next()) {
                self.improve(contender, each, num_shapes);
            }
        };
        std::thread::scope(|scope| (0..self.options.threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    }

    fn improve(&self, contender: &mut Contender, each: u64, num_shapes: usize) {
        let Contender { stack, annealer, .. } = contender;
        let own = annealer.run(stack, self.goal.profile, each, self.options.go_on);
        let judged = self.judged.fetch_add(own, Ordering::Relaxed) + own;
        let Ok(mut best) = self.best.lock() else { return };
        *best = best.min(annealer.best_seconds);
        (self.options.progress)(Progress {
            judged,
            judgements: self.options.judgements,
            num_shapes,
            layer_seconds: *best,
            sequential_seconds: self.sequential_seconds,
        });
    }

    /// The plan whose compiled schedule is the fastest, of the best few.
    fn found(&self, contenders: &[Contender]) -> Result<Found, Vec<Diagnostic>> {
        let sequential_seconds = self.step_seconds(&sequential_plan(self.goal.ranks))?;
        let mut best: Option<(f64, Plan, &Contender)> = None;
        for contender in contenders.iter().take(NUM_FINALISTS) {
            let plan = self.plan(&contender.shape, self.frame.streams());
            let plan = with_choice(plan, &contender.stack, &contender.annealer.best);
            let seconds = self.step_seconds(&plan)?;
            if seconds < best.as_ref().map_or(sequential_seconds, |(seconds, ..)| *seconds) {
                best = Some((seconds, plan, contender));
            }
        }
        let Some((seconds, plan, Contender { shape, annealer, .. })) = best else {
            return Err(vec![self.nothing_better(sequential_seconds)]);
        };
        let name = format!("{}-without-overlap", self.goal.name);
        let without_overlap = Plan { name, ..self.plan(shape, Frame::one_stream()) };
        Ok(Found {
            plan,
            shape: shape.describe(),
            seconds,
            sequential_seconds,
            without_overlap_seconds: self.step_seconds(&without_overlap)?,
            without_overlap,
            layer_seconds: annealer.best_seconds,
            sequential_layer_seconds: self.sequential_seconds,
            bound_seconds: self.bound_seconds,
            judged: self.judged.load(Ordering::Relaxed),
        })
    }

    /// Seconds of a whole step by a plan's compiled schedule.
    fn step_seconds(&self, plan: &Plan) -> Result<f64, Vec<Diagnostic>> {
        let graph = compile(self.goal.graph.clone(), plan).map_err(refused)?;
        let bound = bind(&graph, &|key: &str| (self.goal.config)(key))?;
        Ok(simulate::seconds(&Model { graph: &graph, bound: &bound, profile: self.goal.profile }, &self.goal.mix))
    }

    fn nothing_better(&self, step_seconds: f64) -> Diagnostic {
        let message = format!(
            "no plan beats `sequential` on `{}` with {} decode and {} prefill rows: nothing is written",
            self.goal.profile.name, self.goal.mix.decode, self.goal.mix.prefill
        );
        let help = format!(
            "a step takes {:.2} ms and a layer {:.3} ms, which no plan does in less than {:.3} ms; give the search more \
             judgements, or another workload",
            step_seconds * 1e3,
            self.sequential_seconds * 1e3,
            self.bound_seconds * 1e3
        );
        Diagnostic::new("T1601", Place::default(), message).help(help)
    }
}

/// The layers of a graph whose launches have their streams.
fn stack_of(goal: &Goal<'_>, graph: &Graph) -> Result<Stack, Vec<Diagnostic>> {
    let bound = bind(graph, &|key: &str| (goal.config)(key))?;
    let model = Model { graph, bound: &bound, profile: goal.profile };
    let no_layers = || vec![Diagnostic::new("T1602", Place::default(), format!("`{}` has no layers", goal.graph.name))];
    Stack::of(&model, &goal.mix).filter(|stack| stack.num_layers > 0).ok_or_else(no_layers)
}

fn refused(error: PassError) -> Vec<Diagnostic> {
    match error {
        PassError::Refused { mistakes, .. } => mistakes,
        other => vec![Diagnostic::new("T1602", Place::default(), other.to_string())],
    }
}

/// The plan with the order and the shares that were found.
fn with_choice(plan: Plan, stack: &Stack, choice: &Choice) -> Plan {
    let place = Place::default();
    let list = |(body, order): (&stack::Body, &Vec<usize>)| {
        let name = |piece: &stack::Piece| LaunchName { node: piece.node.clone(), nano: piece.nano, place };
        List { body: body.name.clone(), launches: order.iter().map(|at| name(&body.pieces[*at])).collect(), place }
    };
    let lists = stack.bodies.iter().zip(&choice.orders).map(list).collect();
    let mut shares: Vec<Share> = vec![];
    let mut places: Vec<Rule<StreamId>> = vec![];
    for ((body, own), streams) in stack.bodies.iter().zip(&choice.shares).zip(&choice.streams) {
        for ((piece, share), stream) in body.pieces.iter().zip(own).zip(streams) {
            let of = Target::Named(piece.node.clone());
            let rule = Rule { of: of.clone(), value: StreamId::new(*stream), place };
            shares.push(Share { of, nano: Some(piece.nano), share: *share, place });
            if *stream != piece.stream && !places.contains(&rule) {
                places.push(rule);
            }
        }
    }
    Plan { order: Order::Listed(lists), shares, place: places, ..plan }
}
