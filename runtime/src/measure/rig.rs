//! A device set up to be measured: its memory written once, a stream for each share, and runs of launches timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::case::{Case, Place, tables};
use super::needs::{IN, Needs, OUT, PAGE_TOKENS, Shape, TABLE};
use super::{Bench, BenchError, Effort};
use crate::launch::{
    BufferId, CacheRef, Embed, KvWrite, Region, Site, SpanTable, StepTable, StepTables, StreamGroup, StreamId,
    StreamSpec, TokenSource, WeightRef,
};

/// Most launches of a run.
const MAX_LAUNCHES: usize = 4096;

/// A device set up to be measured.
pub(super) struct Rig<D> {
    device: D,
    needs: Needs,
    shape: Shape,
    buffers: Vec<BufferId>,
    /// Streams by share, two of each: one to be measured, one to run beside it.
    streams: Vec<(f32, [StreamId; 2])>,
    run: Duration,
    /// Where going round has come to.
    turn: usize,
}

impl<D: Bench> Rig<D> {
    pub(super) fn open(part: D::Part, effort: &Effort) -> Result<Self, BenchError> {
        let needs = Needs::of(effort);
        let (mut device, buffers) = D::open(&needs, part)?;
        let mut streams = Vec::new();
        for share in device.shares() {
            let mut add = |name, group| device.bench_stream(&StreamSpec { name, group, share });
            streams.push((share, [add("measured", StreamGroup::Compute)?, add("beside", StreamGroup::Memory)?]));
        }
        let rig = Self { device, needs, shape: effort.shape, buffers, streams, run: effort.run, turn: 0 };
        rig.fill()?;
        Ok(rig)
    }

    /// The shares of the device, rising; the last is 1.
    pub(super) fn shares(&self) -> Vec<f32> {
        self.streams.iter().map(|(share, _)| *share).collect()
    }

    pub(super) fn needs(&self) -> &Needs {
        &self.needs
    }

    pub(super) fn device(&self) -> &D {
        &self.device
    }

    /// How long the launches of one case take together.
    pub(super) fn run(&self) -> Duration {
        self.run
    }

    /// The stream that has all of the device.
    pub(super) fn whole(&self) -> StreamId {
        // A device has at least the share 1, and `open` made streams of all shares.
        self.streams.last().map_or(StreamId(0), |(_, [measured, _])| *measured)
    }

    /// The streams of a share.
    pub(super) fn streams(&self, share: f32) -> [StreamId; 2] {
        let of_share = self.streams.iter().find(|(own, _)| *own == share);
        of_share.map_or([self.whole(); 2], |(_, streams)| *streams)
    }

    /// Seconds of a launch of `case` among many on `stream`, nothing else running.
    pub(super) fn seconds(&mut self, case: Case, stream: StreamId) -> Result<f64, BenchError> {
        self.device.begin_step(Arc::new(tables(case, &self.needs)));
        let once = self.time(case, stream, 1)?;
        // The first launch may pay for what the step before left in the caches; a few more are a better guess.
        let guess = if once < self.run { self.time(case, stream, 3)? / 3 } else { once };
        let count = launches_in(self.run, guess);
        Ok(self.time(case, stream, count)?.as_secs_f64() / count as f64)
    }

    /// The time of `count` launches from the first to the end of the last.
    fn time(&mut self, case: Case, stream: StreamId, count: usize) -> Result<Duration, BenchError> {
        let began = Instant::now();
        self.put(case, stream, count);
        self.device.finish(stream)?;
        Ok(began.elapsed())
    }

    /// Puts launches on a stream; the device's step is the case's.
    pub(super) fn put(&mut self, case: Case, stream: StreamId, count: usize) {
        let place = self.place(stream);
        (self.turn..self.turn + count).for_each(|turn| place.launch(case, turn));
        self.turn += count;
    }

    fn place(&self, stream: StreamId) -> Place<'_, D> {
        let Self { device, needs, shape, buffers, .. } = self;
        Place { device, needs, shape: *shape, buffers, stream }
    }

    /// Writes numbers to all activations and pages: memory that was never written is not read as other memory is.
    fn fill(&self) -> Result<(), BenchError> {
        let (max_rows, num_pages) = (self.needs.max_rows as u32, self.needs.num_pages as u32);
        let whole = self.whole();
        let site = Site { stream: whole, node: "fill", nano: 0, layer: None, share: None };
        let pages_at_once = (max_rows / PAGE_TOKENS as u32).max(1);
        for first in (0..num_pages).step_by(pages_at_once as usize) {
            let pages: Vec<u32> = (first..(first + pages_at_once).min(num_pages)).collect();
            let rows = (pages.len() * PAGE_TOKENS).min(max_rows as usize) as u32;
            self.device.begin_step(Arc::new(written(rows, pages)));
            if first == 0 {
                self.fill_buffers(site, rows);
            }
            let kv = self.shape.kv() as u32;
            let region = |column| self.region(IN, rows, column, kv);
            for layer in 0..self.needs.model.num_layers {
                let args = KvWrite { k: region(0), v: region(kv), cache: CacheRef::of_layer(0, layer) };
                self.device.kv_write(site, args);
            }
        }
        Ok(self.device.finish(whole)?)
    }

    /// Rows of the embedding table, side by side and one under another.
    fn fill_buffers(&self, site: Site, rows: u32) {
        let hidden = self.shape.hidden as u32;
        for buffer in [IN, OUT] {
            let columns = self.needs.buffers[buffer].columns as u32;
            for column in (0..columns - hidden).step_by(hidden as usize).chain([columns - hidden]) {
                let (ids, table) = (StepTable::Ids, WeightRef::of_model(TABLE));
                self.device.embed(site, Embed { ids, table, out: self.region(buffer, rows, column, hidden) });
            }
        }
    }

    fn region(&self, buffer: usize, num_rows: u32, column: u32, num_columns: u32) -> Region {
        Region { buffer: self.buffers[buffer], first_row: 0, num_rows, column, num_columns }
    }
}

/// How many launches of `each` make a run.
pub(super) fn launches_in(run: Duration, each: Duration) -> usize {
    let count = run.as_secs_f64() / each.as_secs_f64().max(1e-7);
    (count.ceil() as usize).clamp(1, MAX_LAUNCHES)
}

/// A step that writes whole pages.
fn written(rows: u32, pages: Vec<u32>) -> StepTables {
    StepTables {
        ids: (0..rows).map(TokenSource::Known).collect(),
        positions: (0..rows).collect(),
        spans: vec![SpanTable { first_row: 0, num_rows: rows, position: 0, pages }],
        num_decode_rows: 0,
        last: Vec::new(),
    }
}
