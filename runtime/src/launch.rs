//! The launch surface: all that compiled models call, and all that a device must offer.
//!
//! A launch is put on a stream and returns at once; launches on one stream run in order, streams run side by side,
//! and only events order them. An event behaves as CUDA's do: [`Device::record`] marks the work put on a stream so
//! far, [`Device::wait`] makes a stream wait for the latest record made *before* the wait was put down, and a wait
//! for an event that was never recorded passes at once.
//!
//! Arguments are plain numbers ([`Region`], [`WeightRef`], [`CacheRef`]), so a device can queue them without
//! allocating. Sizes have been checked when the model was bound; a device may trust them.
//!
//! This module knows nothing of graphs, plans, requests or pages' owners.

mod attention;
mod elementwise;
mod experts;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use attention::{Attention, KvWrite, Rope, Scores};
pub use elementwise::{Add, AddRmsNorm, Apply, Function, GatedMul, Join, LayerNorm, RmsNorm};
pub use experts::{Combine, ExpertLinear, Groups, Route, Scoring};

use crate::executor::Slot;

/// A stream of a device: an ordered queue of launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u16);

/// An event of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub u16);

/// A buffer of a device: rows of one width, of f32 or of whole numbers held bit for bit as u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub u16);

/// Which of the device's resources a stream's launches mainly use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamGroup {
    /// Matrix products.
    Compute,
    /// Attention over the KV cache.
    Memory,
    /// Collectives.
    Network,
    /// Copies between tiers.
    Copy,
}

/// A stream as a plan asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamSpec {
    /// As the plan names it; shown in traces.
    pub name: &'static str,
    /// The resource its launches mainly use.
    pub group: StreamGroup,
    /// Its part of the device, in (0, 1].
    pub share: f32,
}

/// Where a launch stands in the schedule: for its queue, for traces and for error messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// The stream it goes to.
    pub stream: StreamId,
    /// The node of the graph.
    pub node: &'static str,
    /// The nano-batch, counted from 0.
    pub nano: u8,
    /// The layer, `None` outside the layers.
    pub layer: Option<u16>,
    /// Its part of the device, in (0, 1]; `None` for its stream's.
    pub share: Option<f32>,
}

impl Site {
    /// The site of a launch that takes this part of the device.
    pub fn with_share(self, share: f32) -> Self {
        Self { share: Some(share), ..self }
    }
}

impl fmt::Display for Site {
    /// `layer 3: q#0 (stream 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "layer {layer}: ")?;
        }
        write!(f, "{}#{} (stream {})", self.node, self.nano, self.stream.0)
    }
}

/// Rows and a column window of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The buffer.
    pub buffer: BufferId,
    /// First row.
    pub first_row: u32,
    /// Number of rows; a launch over no rows does nothing.
    pub num_rows: u32,
    /// First column.
    pub column: u32,
    /// Number of columns.
    pub num_columns: u32,
}

/// A weight of the bound model: an index into its weight table, and the layer for weights that each layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightRef {
    /// Index into the model's weight table.
    pub weight: u16,
    /// The layer (0 for a weight of the whole model).
    pub layer: u16,
}

impl WeightRef {
    /// A weight of the whole model.
    pub fn of_model(weight: u16) -> Self {
        Self { weight, layer: 0 }
    }

    /// One layer's own of a weight that each layer has.
    pub fn of_layer(weight: u16, layer: usize) -> Self {
        Self { weight, layer: layer as u16 }
    }
}

/// One layer of a KV cache of the bound model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRef {
    /// Index into the model's cache table.
    pub cache: u16,
    /// The layer.
    pub layer: u16,
}

impl CacheRef {
    /// A layer of a cache.
    pub fn of_layer(cache: u16, layer: usize) -> Self {
        Self { cache, layer: layer as u16 }
    }
}

/// A table of rotary angles of the bound model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeRef(pub u16);

/// Which per-row table of a step an operator reads its indices from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepTable {
    /// Token ids, one per row of the dense batch.
    Ids,
    /// Positions, one per row of the dense batch.
    Positions,
    /// The rows of the dense batch whose logits are wanted, one per sampled sequence.
    Last,
}

/// Where an input token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// Known when the step was formed.
    Known(u32),
    /// The token last sampled into this slot.
    LastSampled(Slot),
}

/// Rows of the dense batch that belong to one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanTable {
    /// First row in the dense batch.
    pub first_row: u32,
    /// Number of rows.
    pub num_rows: u32,
    /// Position of the first row in its sequence.
    pub position: u32,
    /// The sequence's pages in order, covering at least `position + num_rows` tokens.
    pub pages: Vec<u32>,
}

/// What a step tells the device about its rows.
#[derive(Debug, Clone, Default)]
pub struct StepTables {
    /// Input tokens, by row.
    pub ids: Vec<TokenSource>,
    /// Positions, by row.
    pub positions: Vec<u32>,
    /// The rows of each sequence, in row order: decodes (one row each) first, then prefill chunks.
    pub spans: Vec<SpanTable>,
    /// How many of the rows, from the first on, are decodes.
    pub num_decode_rows: u32,
    /// Rows whose logits are wanted.
    pub last: Vec<u32>,
}

/// `out[r] = table[ids[r]]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// Where the indices stand.
    pub ids: StepTable,
    /// The table, `[rows, columns]`.
    pub table: WeightRef,
    /// `[tokens, columns]`.
    pub out: Region,
}

/// `out = x · weightᵀ + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// `[rows, inputs]`.
    pub x: Region,
    /// `[outputs, inputs]`.
    pub weight: WeightRef,
    /// `[outputs]`.
    pub bias: Option<WeightRef>,
    /// `[rows, outputs]`.
    pub out: Region,
}

/// `out[i] = x[at[i]]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// `[tokens, columns]`, all rows of the dense batch.
    pub x: Region,
    /// Where the row numbers stand.
    pub at: StepTable,
    /// `[seqs, columns]`.
    pub out: Region,
}

/// Rows that the ranks of a tensor-parallel model exchange. A device that is one rank alone copies them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Collective {
    /// This rank's own, `[rows, columns]`.
    pub x: Region,
    /// What all ranks then have: of a sum `[rows, columns]`, which may be the region of `x`; of a gathering
    /// `[rows, ranks * columns]`.
    pub out: Region,
}

/// What runs launches. One method per operator; every one returns at once.
///
/// `tables` is the step's own copy; a device may read it until the step's last launch has run.
pub trait Device: Send + Sync + 'static {
    /// Begins a step: launches that follow read these tables.
    fn begin_step(&self, tables: Arc<StepTables>);
    /// Row lookup in a table.
    fn embed(&self, site: Site, args: Embed);
    /// RMS normalisation.
    fn rms_norm(&self, site: Site, args: RmsNorm);
    /// Layer normalisation.
    fn layer_norm(&self, site: Site, args: LayerNorm);
    /// Residual addition and RMS normalisation in one pass.
    fn add_rms_norm(&self, site: Site, args: AddRmsNorm);
    /// Matrix product with a weight.
    fn linear(&self, site: Site, args: Linear);
    /// Rotary position embedding.
    fn rope(&self, site: Site, args: Rope);
    /// Keys and values into the cache.
    fn kv_write(&self, site: Site, args: KvWrite);
    /// Attention of decode rows (one row per sequence).
    fn decode_attention(&self, site: Site, args: Attention);
    /// Attention of prefill rows.
    fn prefill_attention(&self, site: Site, args: Attention);
    /// Heads put together of two parts.
    fn join(&self, site: Site, args: Join);
    /// Sum of two regions.
    fn add(&self, site: Site, args: Add);
    /// Gated activation.
    fn gated_mul(&self, site: Site, args: GatedMul);
    /// A function of each element.
    fn apply(&self, site: Site, args: Apply);
    /// Experts chosen for each row.
    fn route(&self, site: Site, args: Route);
    /// Matrix product with the weights of each row's experts.
    fn expert_linear(&self, site: Site, args: ExpertLinear);
    /// Sum of what the experts give, by their shares.
    fn combine(&self, site: Site, args: Combine);
    /// Rows picked by number.
    fn rows(&self, site: Site, args: Rows);
    /// The sum over all ranks.
    fn all_reduce(&self, site: Site, args: Collective);
    /// The columns of all ranks side by side.
    fn all_gather(&self, site: Site, args: Collective);
    /// Marks the work put on `stream` so far.
    fn record(&self, stream: StreamId, event: EventId);
    /// Makes `stream` wait for the latest record of `event` made before this call.
    fn wait(&self, stream: StreamId, event: EventId);
}

/// The rows of one step as a compiled model cuts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRows {
    /// Rows of the dense batch.
    pub tokens: u32,
    /// How many of them, from the first on, are decodes.
    pub decode: u32,
    /// Rows whose logits are wanted.
    pub seqs: u32,
}

/// A plan's rule for one cut of the dense batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// This share of all rows.
    Share(f32),
    /// This many rows.
    Tokens(u32),
    /// The end of this share of the decode rows.
    DecodeShare(f32),
}

impl StepRows {
    /// Where the rules cut: `rules.len() + 2` positions, the first 0 and the last `tokens`, never falling.
    /// Inner positions are rounded down to a multiple of `multiple_of`.
    pub fn cut<const N: usize>(&self, rules: &[Point], multiple_of: u32) -> [u32; N] {
        debug_assert_eq!(rules.len() + 2, N);
        let mut points = [self.tokens; N];
        points[0] = 0;
        for (i, rule) in rules.iter().enumerate() {
            let at = match *rule {
                Point::Share(share) => (self.tokens as f32 * share) as u32,
                Point::Tokens(tokens) => tokens,
                Point::DecodeShare(share) => (self.decode as f32 * share) as u32,
            };
            let at = at / multiple_of.max(1) * multiple_of.max(1);
            points[i + 1] = at.clamp(points[i], self.tokens);
        }
        points
    }

    /// The decode rows within `rows`.
    pub fn decode_rows(&self, rows: Range<u32>) -> Range<u32> {
        rows.start.min(self.decode)..rows.end.min(self.decode)
    }

    /// The prefill rows within `rows`.
    pub fn prefill_rows(&self, rows: Range<u32>) -> Range<u32> {
        rows.start.max(self.decode)..rows.end.max(self.decode)
    }
}

/// A plan bound to a device: everything a generated launch function needs beside the model's own sizes.
pub struct Launcher<'a, D> {
    /// The device.
    pub device: &'a D,
    /// The plan's streams, by their number in the plan.
    pub streams: &'a [StreamId],
    /// The plan's events.
    pub events: &'a [EventId],
    /// The plan's buffers.
    pub buffers: &'a [BufferId],
    /// The rows of this step.
    pub rows: StepRows,
}

impl<D: Device> Launcher<'_, D> {
    /// The site of a launch.
    pub fn site(&self, stream: usize, node: &'static str, nano: u8, layer: Option<usize>) -> Site {
        Site { stream: self.streams[stream], node, nano, layer: layer.map(|layer| layer as u16), share: None }
    }

    /// A column window of some rows of the plan's buffer number `buffer`.
    pub fn region(&self, buffer: usize, rows: Range<u32>, column: usize, num_columns: usize) -> Region {
        Region {
            buffer: self.buffers[buffer],
            first_row: rows.start,
            num_rows: rows.end - rows.start,
            column: column as u32,
            num_columns: num_columns as u32,
        }
    }

    /// Marks the work put on the plan's stream number `stream` so far.
    pub fn record(&self, stream: usize, event: usize) {
        self.device.record(self.streams[stream], self.events[event]);
    }

    /// Makes the plan's stream number `stream` wait for its event number `event`.
    pub fn wait(&self, stream: usize, event: usize) {
        self.device.wait(self.streams[stream], self.events[event]);
    }
}
