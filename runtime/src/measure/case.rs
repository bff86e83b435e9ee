//! Operators at sizes: which are measured, the step's tables that they read, and their launches.

use super::Effort;
use super::needs::{FIRST_PRODUCT, IN, NORM, Needs, OUT, PAGE_TOKENS, Shape, TABLE, VOCAB};
use crate::launch::{
    Add, AddRmsNorm, Attention, BufferId, CacheRef, Device, Embed, Function, GatedMul, KvWrite, Linear, Region,
    RmsNorm, Rope, RopeRef, Rows, Scores, Site, SpanTable, StepTable, StepTables, StreamId, TokenSource, WeightRef,
};

/// Most sequences that decode attention reads in turn. A step's rows are looked through at each launch, so there must not
/// be too many.
const MAX_SPANS: u32 = 64;
/// Rows of a product that is bound by arithmetic everywhere.
const COMPUTE_ROWS: u32 = 512;

/// An operator at a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Row lookup of this many rows, `hidden` wide.
    Embed(u32),
    /// Of rows of `hidden`.
    RmsNorm(u32),
    /// Of rows of `hidden`.
    AddRmsNorm(u32),
    /// Of rows with one of [`Shape::products`].
    Linear {
        /// Rows.
        rows: u32,
        /// Index of the product.
        product: u16,
    },
    /// Of rows of `hidden`.
    Rope(u32),
    /// Of rows of keys and values.
    KvWrite(u32),
    /// One row of each of some sequences.
    DecodeAttention {
        /// Sequences.
        seqs: u32,
        /// Tokens that each has kept, the row's own with them.
        context: u32,
    },
    /// The last rows of one sequence.
    PrefillAttention {
        /// Rows.
        rows: u32,
        /// Tokens of the sequence, the rows with them.
        context: u32,
    },
    /// Of rows of `hidden`.
    Add(u32),
    /// Of rows of `ffn`.
    GatedMul(u32),
    /// Of rows of `hidden`.
    Rows(u32),
}

impl Case {
    /// As a graph names the operator.
    pub fn operator(self) -> &'static str {
        match self {
            Self::Embed(_) => "Embed",
            Self::RmsNorm(_) => "RmsNorm",
            Self::AddRmsNorm(_) => "AddRmsNorm",
            Self::Linear { .. } => "Linear",
            Self::Rope(_) => "Rope",
            Self::KvWrite(_) => "KvWrite",
            Self::DecodeAttention { .. } => "DecodeAttention",
            Self::PrefillAttention { .. } => "PrefillAttention",
            Self::Add(_) => "Add",
            Self::GatedMul(_) => "GatedMul",
            Self::Rows(_) => "Rows",
        }
    }

    /// A product that is bound by arithmetic.
    pub(super) fn of_compute(needs: &Needs) -> Self {
        Self::Linear { rows: COMPUTE_ROWS.min(needs.max_rows as u32), product: 0 }
    }

    /// Attention that is bound by memory.
    pub(super) fn of_memory(needs: &Needs) -> Self {
        Self::DecodeAttention { seqs: 8.min(needs.max_rows as u32), context: needs.max_context.min(1024) as u32 }
    }
}

/// All cases of an effort.
pub fn cases(effort: &Effort) -> Vec<Case> {
    let rows = |all: &[u32]| all.iter().copied().filter(|rows| *rows <= effort.max_rows).collect::<Vec<_>>();
    let contexts = |all: &[u32]| all.iter().copied().filter(|rows| *rows <= effort.max_context).collect::<Vec<_>>();
    let mut cases = Vec::new();
    for product in 0..effort.shape.products().len() as u16 {
        let rows = rows(&[1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048]);
        cases.extend(rows.into_iter().map(|rows| Case::Linear { rows, product }));
    }
    for seqs in rows(&[1, 4, 16, 64]) {
        let fits = |context: &u32| seqs * context <= 16 * effort.max_context;
        let contexts = contexts(&[64, 256, 512, 1024, 2048]).into_iter().filter(fits);
        cases.extend(contexts.map(|context| Case::DecodeAttention { seqs, context }));
    }
    for rows in rows(&[16, 64, 128, 256, 512, 1024]) {
        let contexts = contexts(&[16, 64, 128, 256, 512, 1024, 2048]).into_iter().filter(|context| *context >= rows);
        cases.extend(contexts.map(|context| Case::PrefillAttention { rows, context }));
    }
    let by_rows: [fn(u32) -> Case; 8] = [
        Case::Embed,
        Case::RmsNorm,
        Case::AddRmsNorm,
        Case::Rope,
        Case::KvWrite,
        Case::Add,
        Case::GatedMul,
        Case::Rows,
    ];
    for case in by_rows {
        cases.extend(rows(&[1, 4, 16, 64, 256, 512, 1024, 2048]).into_iter().map(case));
    }
    cases
}

/// Sequences of a case's step that launches go round, each group as many as one launch reads.
pub(super) fn num_groups(case: Case, needs: &Needs) -> u32 {
    let Case::DecodeAttention { seqs, context } = case else { return 1 };
    let pages = seqs * context.div_ceil(PAGE_TOKENS as u32);
    (MAX_SPANS.min(needs.max_rows as u32) / seqs).min(needs.num_pages as u32 / pages).max(1)
}

/// The tables that a case's launches read.
pub(super) fn tables(case: Case, needs: &Needs) -> StepTables {
    match case {
        Case::DecodeAttention { seqs, context } => decodes(seqs * num_groups(case, needs), context, needs),
        Case::PrefillAttention { rows, context } => prefill(rows, context),
        Case::Embed(rows)
        | Case::RmsNorm(rows)
        | Case::AddRmsNorm(rows)
        | Case::Linear { rows, .. }
        | Case::Rope(rows)
        | Case::KvWrite(rows)
        | Case::Add(rows)
        | Case::GatedMul(rows)
        | Case::Rows(rows) => prefill(rows, rows),
    }
}

fn decodes(count: u32, context: u32, needs: &Needs) -> StepTables {
    let pages_each = context.div_ceil(PAGE_TOKENS as u32);
    let span = |row: u32| SpanTable {
        first_row: row,
        num_rows: 1,
        position: context - 1,
        pages: (row * pages_each..(row + 1) * pages_each).map(|page| page % needs.num_pages as u32).collect(),
    };
    StepTables {
        ids: (0..count).map(token).collect(),
        positions: vec![context - 1; count as usize],
        spans: (0..count).map(span).collect(),
        num_decode_rows: count,
        last: (0..count).collect(),
    }
}

fn prefill(rows: u32, context: u32) -> StepTables {
    let position = context - rows;
    let pages = (0..context.div_ceil(PAGE_TOKENS as u32)).collect();
    StepTables {
        ids: (0..rows).map(token).collect(),
        positions: (position..context).collect(),
        spans: vec![SpanTable { first_row: 0, num_rows: rows, position, pages }],
        num_decode_rows: 0,
        last: (0..rows).collect(),
    }
}

/// Ids that lie all over the table.
fn token(row: u32) -> TokenSource {
    TokenSource::Known(row.wrapping_mul(2_654_435_761) % VOCAB as u32)
}

/// Where launches are put: a device with its buffers.
pub(super) struct Place<'a, D> {
    pub(super) device: &'a D,
    pub(super) needs: &'a Needs,
    pub(super) shape: Shape,
    pub(super) buffers: &'a [BufferId],
    pub(super) stream: StreamId,
}

impl<D: Device> Place<'_, D> {
    /// Launch number `turn` of a case, whose tables the device's step holds.
    pub(super) fn launch(&self, case: Case, turn: usize) {
        let (device, Shape { hidden, ffn, head, .. }) = (self.device, self.shape);
        let site = Site { stream: self.stream, node: case.operator(), nano: 0, layer: None, share: None };
        let num_layers = self.needs.model.num_layers;
        let cache = CacheRef::of_layer(0, turn % num_layers);
        let kv = self.shape.kv();
        let from = |rows, column, columns| self.region(IN, 0..rows, column, columns);
        let to = |rows, column, columns| self.region(OUT, 0..rows, column, columns);
        let scores = Scores::plain(1.0 / (head as f32).sqrt());
        let (norm, eps) = (WeightRef::of_model(NORM), 1e-5);
        match case {
            Case::Embed(rows) => {
                let (ids, table) = (StepTable::Ids, WeightRef::of_model(TABLE));
                device.embed(site, Embed { ids, table, out: to(rows, 0, hidden) });
            }
            Case::RmsNorm(rows) => {
                let (x, out) = (from(rows, 0, hidden), to(rows, 0, hidden));
                device.rms_norm(site, RmsNorm { x, weight: Some(norm), eps, group: hidden as u32, out });
            }
            Case::AddRmsNorm(rows) => {
                let (a, b) = (from(rows, 0, hidden), from(rows, hidden, hidden));
                let (sum, out) = (to(rows, 0, hidden), to(rows, hidden, hidden));
                device.add_rms_norm(site, AddRmsNorm { a, b, weight: norm, eps, sum, out });
            }
            Case::Linear { rows, product } => {
                let (inputs, outputs) = self.shape.products()[usize::from(product)];
                let weight = WeightRef::of_layer(FIRST_PRODUCT + product, turn % self.needs.copies(product));
                let (x, out) = (from(rows, 0, inputs), to(rows, 0, outputs));
                device.linear(site, Linear { x, weight, bias: None, out });
            }
            Case::Rope(rows) => {
                let (x, out) = (from(rows, 0, hidden), to(rows, 0, hidden));
                let (positions, table) = (StepTable::Positions, RopeRef(0));
                device.rope(site, Rope { x, positions, table, head: head as u32, out });
            }
            Case::KvWrite(rows) => {
                device.kv_write(site, KvWrite { k: from(rows, 0, kv), v: from(rows, kv, kv), cache });
            }
            Case::DecodeAttention { seqs, .. } => {
                let group = (turn / num_layers) as u32 % num_groups(case, self.needs);
                let rows = group * seqs..(group + 1) * seqs;
                let (q, out) = (self.region(IN, rows.clone(), 0, hidden), self.region(OUT, rows, 0, hidden));
                device.decode_attention(site, Attention { q, cache, scores, out });
            }
            Case::PrefillAttention { rows, .. } => {
                let (q, out) = (from(rows, 0, hidden), to(rows, 0, hidden));
                device.prefill_attention(site, Attention { q, cache, scores, out });
            }
            Case::Add(rows) => {
                let (a, b, out) = (from(rows, 0, hidden), from(rows, hidden, hidden), to(rows, 0, hidden));
                device.add(site, Add { a, b, out });
            }
            Case::GatedMul(rows) => {
                let (gate, up, out) = (from(rows, 0, ffn), from(rows, ffn, ffn), to(rows, 0, ffn));
                device.gated_mul(site, GatedMul { gate, up, by: Function::Silu, limit: 0.0, shift: 0.0, out });
            }
            Case::Rows(rows) => {
                let (x, out) = (from(rows, 0, hidden), to(rows, 0, hidden));
                device.rows(site, Rows { x, at: StepTable::Last, out });
            }
        }
    }

    fn region(&self, buffer: usize, rows: std::ops::Range<u32>, column: usize, num_columns: usize) -> Region {
        Region {
            buffer: self.buffers[buffer],
            first_row: rows.start,
            num_rows: rows.end - rows.start,
            column: column as u32,
            num_columns: num_columns as u32,
        }
    }
}
