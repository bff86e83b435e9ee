//! The launch schedule: what is put on which stream, in which order, with the events between.
//!
//! A schedule is one program for the host: it goes through the steps of each section in order and puts every launch,
//! record and wait on its stream. A section that repeats is one text per block, run once per layer. Streams run side
//! by side; only program order within a stream and record → wait order launches.
//!
//! [`crate::verify`] checks, independently of the passes, that this is enough.

use crate::dim::Dim;
use crate::graph::Range;
use crate::ids::{BlockId, BufferId, EventId, StreamId, Table, ValueId};
use crate::op::Op;

/// The streams of a plan.
pub type Streams = Table<StreamId, Stream>;

/// A stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// As the plan names it.
    pub name: String,
    /// The resource its launches mainly use.
    pub group: Group,
    /// Its part of the device, in (0, 1].
    pub share: f32,
}

/// A stream group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Matrix products.
    Compute,
    /// Attention over the KV cache.
    Memory,
    /// Collectives.
    Network,
    /// Copies between tiers.
    Copy,
}

/// A launch schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The sections, in order: those before the first repeat embed, those after the last one are the head.
    pub sections: Vec<Section>,
    /// How many events it uses.
    pub num_events: usize,
    /// The buffers, filled in by `memory`.
    pub buffers: Table<BufferId, Buffer>,
    /// Where each value lives, by its number; `None` for inputs and for values nobody stores.
    pub homes: Table<ValueId, Option<Home>>,
}

/// A part of the schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum Section {
    /// Runs once per step.
    Once(Vec<Step>),
    /// Runs once per layer, cycling through the blocks.
    Repeat {
        /// The text of each block.
        blocks: Vec<(BlockId, Vec<Step>)>,
        /// How many layers.
        times: Dim,
    },
}

/// One step of the host's program.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Puts a launch on its stream.
    Launch(Launch),
    /// Marks what has been put on the stream so far.
    Record {
        /// The stream.
        stream: StreamId,
        /// The event.
        event: EventId,
    },
    /// Makes the stream wait for the latest record of the event made before.
    Wait {
        /// The stream.
        stream: StreamId,
        /// The event.
        event: EventId,
    },
}

/// One launch: a nano-operation on its stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The node.
    pub node: String,
    /// Number of the nano-batch among those of its node.
    pub nano: usize,
    /// What it does.
    pub op: Op,
    /// What it gives.
    pub outputs: Vec<ValueId>,
    /// The part of the dense batch it does.
    pub range: Range,
    /// Its stream.
    pub stream: StreamId,
    /// Its own share of the device, in (0, 1]; `None` for its stream's.
    pub share: Option<f32>,
}

/// A buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// What its rows are.
    pub rows: BufferRows,
    /// Its width: at least that of every value that lives in it.
    pub columns: Vec<Dim>,
}

/// What the rows of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferRows {
    /// The dense batch's.
    Tokens,
    /// One per sampled sequence.
    Seqs,
}

/// Where a value lives: all rows of a buffer, and a window of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The buffer.
    pub buffer: BufferId,
    /// First column.
    pub column: Dim,
    /// Number of columns.
    pub columns: Dim,
}
