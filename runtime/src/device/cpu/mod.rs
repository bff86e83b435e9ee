//! The processor as a device: streams are queues with threads of their own, events are real.
//!
//! Read in this order: `bell` (how threads wait), `team` (how a stream's threads share a launch), `streams` (queues,
//! events, order), `block`, `arena` and `cache` (memory), `step` (a step's tables), `work` (operators as kernel calls),
//! `sampling`.
//!
//! # Invariants
//!
//! * Streams are ordered by their own queue and by waits, by nothing else: a wait that a schedule forgot is a race.
//! * A launch whose share is below its stream's takes proportionally fewer of the stream's threads; a larger one takes
//!   them all.
//! * A launch's result does not depend on how its items fall to threads; the kernels are batch-invariant.
//! * A panic inside a launch becomes the device's fault, named by its site; what follows is skipped and nothing hangs.
//! * An idle device uses no processor time.

mod arena;
mod bell;
mod bench;
mod block;
mod cache;
mod convert;
mod fault;
mod memory;
mod sampling;
mod step;
mod streams;
mod team;
mod work;

use std::sync::{Arc, Mutex};

use trefoil_kernels::cpu as kernels;

pub use cache::PageShape;
pub use memory::{Memory, MemorySizes};
pub use sampling::SampledRows;
pub use streams::Mark;

use crate::executor::DeviceFault;
use crate::expert_loads::ExpertLoads;
use crate::launch::{
    Add, AddRmsNorm, Apply, Attention, Collective, Combine, Device, Embed, EventId, ExpertLinear, GatedMul, Join,
    KvWrite, LayerNorm, Linear, Region, RmsNorm, Rope, Route, Rows, Site, StepTables, StreamId, StreamSpec,
};
use crate::trace::Trace;
use bell::lock;
use step::CurrentStep;
use streams::{Event, Streams};
use work::{Launch, Work};

/// The processor.
pub struct CpuDevice {
    streams: Streams<Launch>,
    events: Vec<Event>,
    memory: Arc<Memory>,
    step: Mutex<Arc<CurrentStep>>,
    num_threads: usize,
}

/// The instruction set that the kernels use on this machine.
pub fn instruction_set() -> String {
    format!("{:?}", kernels::isa()).to_lowercase()
}

impl CpuDevice {
    /// What the names of its profiles begin with.
    pub const KIND: &str = "cpu";

    /// A device without streams over this memory. Streams share `num_threads` threads' worth of the processor by
    /// their shares; launches are recorded in `trace` where there is one.
    pub fn new(memory: Memory, num_threads: usize, trace: Option<Arc<Trace>>) -> Self {
        let memory = Arc::new(memory);
        Self {
            streams: Streams::new(memory.clone(), trace),
            events: Vec::new(),
            memory,
            step: Mutex::default(),
            num_threads: num_threads.max(1),
        }
    }

    /// Starts a stream with its share of the threads, rounded up.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn add_stream(&mut self, spec: &StreamSpec) -> std::io::Result<StreamId> {
        self.streams.add(spec.name, self.num_workers(spec.share))
    }

    /// How many threads a share of the device is.
    fn num_workers(&self, share: f32) -> usize {
        ((share * self.num_threads as f32).ceil() as usize).clamp(1, self.num_threads)
    }

    /// Adds an event that has not been recorded.
    pub fn add_event(&mut self) -> EventId {
        self.events.push(Event::default());
        EventId((self.events.len() - 1) as u16)
    }

    /// Threads that a stream with the whole share has.
    pub fn num_threads(&self) -> usize {
        self.num_threads
    }

    /// The instruction set that the kernels use, for the start-up log.
    pub fn instruction_set(&self) -> String {
        instruction_set()
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Begins a step that runs by `plan`, which traces show. [`Device::begin_step`] is this without a name.
    pub fn begin_planned_step(&self, plan: &'static str, tables: Arc<StepTables>) {
        let mut step = lock(&self.step);
        let page_tokens = self.memory.caches.page_tokens();
        *step = Arc::new(CurrentStep::new(step.number + 1, plan, tables, page_tokens));
    }

    /// Samples rows of logits on the stream of `site`.
    pub fn sample(&self, site: Site, rows: Arc<SampledRows>) {
        self.launch(site, Work::Sample(rows), 1);
    }

    /// The newest launch of `stream`.
    pub fn mark(&self, stream: StreamId) -> Mark {
        self.streams.mark(stream)
    }

    /// Makes every stream of `later` wait for what has been put on the streams of `earlier` so far.
    pub fn barrier(&self, earlier: &[StreamId], later: &[StreamId]) {
        for earlier in earlier {
            let mark = self.streams.mark(*earlier);
            later.iter().for_each(|later| self.streams.wait(*later, mark));
        }
    }

    /// Blocks until everything up to `mark` has run or has been skipped because of a fault.
    ///
    /// # Errors
    /// The device's first fault.
    pub fn synchronize(&self, mark: Mark) -> Result<(), DeviceFault> {
        self.streams.synchronize(mark);
        self.fault().map_or(Ok(()), Err)
    }

    /// The device's first fault.
    pub fn fault(&self) -> Option<DeviceFault> {
        self.streams.faults().first()
    }

    /// Counts how rows fall to experts; `None` for a model without.
    pub fn expert_loads(&self) -> Option<Arc<ExpertLoads>> {
        self.memory.loads.clone()
    }

    /// Copies the rows of a region, row after row. The caller has synchronized with what writes it.
    pub fn read_rows(&self, region: Region) -> Vec<f32> {
        let rows = 0..region.num_rows as usize;
        rows.flat_map(|row| self.memory.arena.row_mut(region, row).iter().copied()).collect()
    }

    fn launch(&self, site: Site, work: Work, num_rows: u32) {
        if num_rows > 0 {
            let step = lock(&self.step).clone();
            let most_workers = site.share.map(|share| self.num_workers(share));
            self.streams.launch(site.stream, Launch { site, work, step, most_workers });
        }
    }
}

impl Device for CpuDevice {
    fn begin_step(&self, tables: Arc<StepTables>) {
        self.begin_planned_step("", tables);
    }

    fn embed(&self, site: Site, args: Embed) {
        self.launch(site, Work::Embed(args), args.out.num_rows);
    }

    fn rms_norm(&self, site: Site, args: RmsNorm) {
        self.launch(site, Work::RmsNorm(args), args.out.num_rows);
    }

    fn layer_norm(&self, site: Site, args: LayerNorm) {
        self.launch(site, Work::LayerNorm(args), args.out.num_rows);
    }

    fn add_rms_norm(&self, site: Site, args: AddRmsNorm) {
        self.launch(site, Work::AddRmsNorm(args), args.out.num_rows);
    }

    fn linear(&self, site: Site, args: Linear) {
        self.launch(site, Work::Linear(args), args.out.num_rows);
    }

    fn rope(&self, site: Site, args: Rope) {
        self.launch(site, Work::Rope(args), args.out.num_rows);
    }

    fn kv_write(&self, site: Site, args: KvWrite) {
        self.launch(site, Work::KvWrite(args), args.k.num_rows);
    }

    fn decode_attention(&self, site: Site, args: Attention) {
        self.launch(site, Work::Attention(args), args.out.num_rows);
    }

    fn prefill_attention(&self, site: Site, args: Attention) {
        self.launch(site, Work::Attention(args), args.out.num_rows);
    }

    fn join(&self, site: Site, args: Join) {
        self.launch(site, Work::Join(args), args.out.num_rows);
    }

    fn add(&self, site: Site, args: Add) {
        self.launch(site, Work::Add(args), args.out.num_rows);
    }

    fn gated_mul(&self, site: Site, args: GatedMul) {
        self.launch(site, Work::GatedMul(args), args.out.num_rows);
    }

    fn apply(&self, site: Site, args: Apply) {
        self.launch(site, Work::Apply(args), args.out.num_rows);
    }

    fn route(&self, site: Site, args: Route) {
        self.launch(site, Work::Route(args), args.shares.num_rows);
    }

    fn expert_linear(&self, site: Site, args: ExpertLinear) {
        self.launch(site, Work::ExpertLinear(args), args.out.num_rows);
    }

    fn combine(&self, site: Site, args: Combine) {
        self.launch(site, Work::Combine(args), args.out.num_rows);
    }

    fn rows(&self, site: Site, args: Rows) {
        self.launch(site, Work::Rows(args), args.out.num_rows);
    }

    fn all_reduce(&self, site: Site, args: Collective) {
        self.launch(site, Work::Exchange(args), args.out.num_rows);
    }

    fn all_gather(&self, site: Site, args: Collective) {
        self.launch(site, Work::Exchange(args), args.out.num_rows);
    }

    fn record(&self, stream: StreamId, event: EventId) {
        self.events[usize::from(event.0)].set(self.streams.mark(stream));
    }

    fn wait(&self, stream: StreamId, event: EventId) {
        self.streams.wait(stream, self.events[usize::from(event.0)].mark());
    }
}
