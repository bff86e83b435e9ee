//! A device that runs nothing and remembers everything.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use trefoil_runtime::launch::{
    Add, AddRmsNorm, Apply, Attention, BufferId, Collective, Combine, Device, Embed, EventId, ExpertLinear, GatedMul,
    Join, KvWrite, Launcher, LayerNorm, Linear, Region, RmsNorm, Rope, Route, Rows, Site, StepRows, StepTables,
    StreamId,
};
use trefoil_runtime::model::{BoundModel, CompiledPlan};

/// One call of the device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// An operator.
    Launch {
        site: Site,
        /// Where it writes.
        out: Option<Region>,
        /// Method and arguments.
        text: String,
    },
    Record(StreamId, EventId),
    Wait(StreamId, EventId),
}

/// The device.
#[derive(Default)]
pub(crate) struct Recorder {
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    fn launch(&self, site: Site, out: Option<Region>, args: &impl std::fmt::Debug) {
        self.note(Call::Launch { site, out, text: format!("{args:?}") });
    }
}

/// A method per operator that gives one region.
macro_rules! operators {
    ($($method:ident($args:ty);)*) => {
        $(fn $method(&self, site: Site, args: $args) {
            self.launch(site, Some(args.out), &args);
        })*
    };
}

impl Device for Recorder {
    fn begin_step(&self, _: Arc<StepTables>) {}
    operators! {
        embed(Embed);
        rms_norm(RmsNorm);
        layer_norm(LayerNorm);
        add_rms_norm(AddRmsNorm);
        linear(Linear);
        rope(Rope);
        decode_attention(Attention);
        prefill_attention(Attention);
        join(Join);
        add(Add);
        gated_mul(GatedMul);
        apply(Apply);
        expert_linear(ExpertLinear);
        combine(Combine);
        rows(Rows);
        all_reduce(Collective);
        all_gather(Collective);
    }
    fn route(&self, site: Site, args: Route) {
        self.launch(site, Some(args.shares), &args);
    }
    fn kv_write(&self, site: Site, args: KvWrite) {
        self.launch(site, None, &args);
    }
    fn record(&self, stream: StreamId, event: EventId) {
        self.note(Call::Record(stream, event));
    }
    fn wait(&self, stream: StreamId, event: EventId) {
        self.note(Call::Wait(stream, event));
    }
}

/// All that a plan does with a step of these rows, its layers in the given parts.
pub(crate) fn run(
    plan: &CompiledPlan<Recorder>,
    bound: &BoundModel,
    rows: StepRows,
    parts: &[Range<usize>],
) -> Vec<Call> {
    let device = Recorder::default();
    let streams: Vec<_> = (0..plan.streams.len()).map(|number| StreamId(number as u16)).collect();
    let events: Vec<_> = (0..plan.num_events).map(|number| EventId(number as u16)).collect();
    let buffers: Vec<_> = (0..(plan.buffers)(bound).len()).map(|number| BufferId(number as u16)).collect();
    let on = Launcher { device: &device, streams: &streams, events: &events, buffers: &buffers, rows };
    (plan.embed)(&on, bound);
    parts.iter().for_each(|part| (plan.layers)(&on, bound, part.clone()));
    (plan.head)(&on, bound);
    device.calls.into_inner().unwrap()
}
