//! Runs steps of a compiled model on the processor.
//!
//! A step becomes tables (`tables`), a plan is chosen by the mix of its rows from those for this device (`choice`), and the plan's generated functions put
//! their launches on the plan's streams, followed by the sampler. Nothing waits: a second step is put on the queues
//! behind the first, and only [`Executor::collect`] blocks.
//!
//! A plan's schedule is proven free of hazards within a step. Between steps stands a barrier: sampling waits for all
//! streams of its step, and all streams of the next step, whichever plan that follows, wait for the sampling. It costs
//! nothing that could be won: a step begins with the tokens that the one before ends with.

mod choice;
mod options;
mod tables;

use std::collections::VecDeque;
use std::sync::Arc;

pub use options::{ExecutorError, ExecutorOptions, KvDtype, Ledger, PlanChoice};

use crate::device::cpu::{CpuDevice, Mark, Memory, MemorySizes, SampledRows};
use crate::executor::{Capacity, DeviceFault, Executor, Step, StepResult};
use crate::expert_loads::ExpertLoads;
use crate::launch::{BufferId, EventId, Launcher, Region, Site, StepRows, StreamId};
use crate::model::{BoundModel, CompiledModel, CompiledPlan, choose};
use crate::trace::Trace;
use crate::weights::Weights;

/// Most steps in flight.
const MAX_IN_FLIGHT: usize = 2;

/// An executor over a compiled model.
pub struct CompiledExecutor {
    device: CpuDevice,
    model: BoundModel,
    plans: Vec<BoundPlan>,
    /// The plan that every step runs by, `None` to choose step by step.
    fixed_plan: Option<usize>,
    capacity: Capacity,
    ledger: Ledger,
    /// The streams of the last step; all its work has been awaited on the last of them.
    last_stream: Option<StreamId>,
    in_flight: VecDeque<InFlight>,
}

/// A plan with its place on the device.
struct BoundPlan {
    plan: &'static CompiledPlan<CpuDevice>,
    streams: Vec<StreamId>,
    events: Vec<EventId>,
    buffers: Vec<BufferId>,
}

struct InFlight {
    sampled: Arc<SampledRows>,
    /// The end of the step.
    end: Mark,
}

impl CompiledExecutor {
    /// Allocates buffers and KV pages, starts the streams of all plans, and binds the plans to them. `bound` is the
    /// model's binding to the checkpoint that `weights` come from. Launches are recorded in `trace`.
    ///
    /// # Errors
    /// A model for several ranks, options that nothing could run under, or too little memory.
    pub fn new(
        model: &CompiledModel<CpuDevice>,
        bound: BoundModel,
        weights: Weights,
        options: &ExecutorOptions,
        trace: Option<Arc<Trace>>,
    ) -> Result<Self, ExecutorError> {
        if model.ranks != 1 {
            return Err(ExecutorError::Sharded { model: model.name, ranks: model.ranks });
        }
        let plans = choice::usable(model.plans);
        let fixed_plan = options.fixed_plan(&plans, model.plans)?;
        let buffers: Vec<_> = plans.iter().map(|plan| (plan.buffers)(&bound)).collect();
        let sizes = options.sizes(&bound, weights.element(), &buffers)?;
        let no_room = ExecutorError::OutOfMemory;
        let (memory, buffers) = Memory::new(&bound, weights, &buffers, &sizes).ok_or(no_room)?;
        let ledger = Ledger::new(&memory, &bound, &sizes);
        let mut device = CpuDevice::new(memory, options.num_threads(), trace);
        let plans = bind_plans(&mut device, &plans, buffers)?;
        let capacity = capacity(&bound, &sizes);
        Ok(Self {
            device,
            model: bound,
            plans,
            fixed_plan,
            capacity,
            ledger,
            last_stream: None,
            in_flight: VecDeque::with_capacity(MAX_IN_FLIGHT),
        })
    }

    /// What the memory went to, for the start-up log.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The device, for the start-up log.
    pub fn device(&self) -> &CpuDevice {
        &self.device
    }

    /// Runs a step without sampling and gives the logits after the rows `at` of its dense batch,
    /// `[at.len(), vocab]`. `at` may name any rows, at most [`Capacity::max_num_seqs`] of them.
    ///
    /// # Errors
    /// A step that the capacity does not allow, or a fault of the device.
    pub fn logits(&mut self, step: &Step, at: &[u32]) -> Result<Vec<f32>, DeviceFault> {
        let mut tables = tables::tables(step, &self.capacity)?;
        tables.last = at.to_vec();
        tables::check_last(&tables, &self.capacity)?;
        let (logits, stream) = self.run(tables);
        self.device.synchronize(self.device.mark(stream))?;
        Ok(self.device.read_rows(logits))
    }

    /// Puts a step on the queues up to its logits; gives their place, and the stream on which all of it is done.
    fn run(&mut self, tables: crate::launch::StepTables) -> (Region, StreamId) {
        let rows = rows_of(&tables);
        let suits = self.plans.iter().map(|bound| bound.plan.suits);
        let bound = &self.plans[self.fixed_plan.unwrap_or_else(|| choose(suits, rows))];
        let BoundPlan { plan, streams, events, buffers } = bound;
        self.device.barrier(self.last_stream.as_slice(), streams);
        self.device.begin_planned_step(plan.name, Arc::new(tables));
        let launcher = Launcher { device: &self.device, streams, events, buffers, rows };
        (plan.embed)(&launcher, &self.model);
        (plan.layers)(&launcher, &self.model, 0..self.model.num_layers);
        (plan.head)(&launcher, &self.model);
        let (buffer, stream) = plan.logits;
        let logits = launcher.region(buffer, 0..rows.seqs, 0, self.model.vocab);
        self.device.barrier(streams, &streams[stream..=stream]);
        self.last_stream = Some(streams[stream]);
        (logits, streams[stream])
    }
}

impl Executor for CompiledExecutor {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn launch(&mut self, step: Step) -> Result<(), DeviceFault> {
        if let Some(fault) = self.device.fault() {
            return Err(fault);
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return Err(tables::refused(format!("{MAX_IN_FLIGHT} steps are in flight already")));
        }
        let tables = tables::tables(&step, &self.capacity)?;
        let (logits, stream) = self.run(tables);
        let rows = step.parts.into_iter().filter_map(|part| Some((part.slot, part.sample?)));
        let sampled = Arc::new(SampledRows::new(logits, rows));
        self.device.sample(Site { stream, node: "sample", nano: 0, layer: None, share: None }, sampled.clone());
        self.in_flight.push_back(InFlight { sampled, end: self.device.mark(stream) });
        Ok(())
    }

    fn collect(&mut self) -> Result<StepResult, DeviceFault> {
        let step = self.in_flight.pop_front().ok_or_else(|| tables::refused("no step is in flight".into()))?;
        self.device.synchronize(step.end)?;
        let sampled = step.sampled.results();
        sampled.map(|sampled| StepResult { sampled }).ok_or_else(|| tables::refused("a row was not sampled".into()))
    }

    fn expert_loads(&self) -> Option<Arc<ExpertLoads>> {
        self.device.expert_loads()
    }
}

fn capacity(model: &BoundModel, sizes: &MemorySizes) -> Capacity {
    Capacity {
        vocab: model.vocab,
        max_model_len: sizes.max_model_len,
        max_num_batched_tokens: sizes.max_num_batched_tokens,
        max_num_seqs: sizes.max_num_seqs,
        page_tokens: sizes.page_shape.page_tokens,
        num_pages: sizes.num_pages,
    }
}

fn rows_of(tables: &crate::launch::StepTables) -> StepRows {
    StepRows { tokens: tables.ids.len() as u32, decode: tables.num_decode_rows, seqs: tables.last.len() as u32 }
}

/// Gives every plan its streams, events and buffers. Streams that are alike serve all plans that ask for them; each
/// plan has events of its own.
fn bind_plans(
    device: &mut CpuDevice,
    plans: &[&'static CompiledPlan<CpuDevice>],
    buffers: Vec<Vec<BufferId>>,
) -> Result<Vec<BoundPlan>, ExecutorError> {
    let mut known = Vec::new();
    let mut bound = Vec::new();
    for (&plan, buffers) in plans.iter().zip(buffers) {
        let mut streams: Vec<StreamId> = Vec::new();
        for spec in plan.streams {
            // Two streams of one plan are two streams, however alike.
            let shared = known.iter().find(|(other, id)| *other == spec && !streams.contains(id)).map(|(_, id)| *id);
            let id = match shared {
                Some(id) => id,
                None => device.add_stream(spec).map_err(|error| ExecutorError::Thread(error.to_string()))?,
            };
            known.push((spec, id));
            streams.push(id);
        }
        let events = (0..plan.num_events).map(|_| device.add_event()).collect();
        bound.push(BoundPlan { plan, streams, events, buffers });
    }
    Ok(bound)
}

#[cfg(test)]
mod tests;
