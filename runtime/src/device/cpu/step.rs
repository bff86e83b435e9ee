//! One step's tables in the form that kernels read them.

use std::sync::Arc;

use trefoil_kernels::cpu::{KvSlot, Span};

use crate::launch::{Region, SpanTable, StepTable, StepTables};

/// The step that launches belong to.
#[derive(Debug, Default)]
pub(super) struct CurrentStep {
    /// Counted from 1.
    pub(super) number: u64,
    /// The plan it runs by.
    pub(super) plan: &'static str,
    pub(super) tables: Arc<StepTables>,
    /// Where each row's keys and values go.
    pub(super) kv_slots: Vec<KvSlot>,
}

impl CurrentStep {
    pub(super) fn new(number: u64, plan: &'static str, tables: Arc<StepTables>, page_tokens: usize) -> Self {
        let kv_slots = tables.spans.iter().flat_map(|span| kv_slots(span, page_tokens)).collect();
        Self { number, plan, tables, kv_slots }
    }

    /// The table of plain numbers that a launch names.
    ///
    /// # Panics
    /// For [`StepTable::Ids`], whose entries may only be known when the launch runs.
    pub(super) fn numbers(&self, table: StepTable) -> &[u32] {
        match table {
            StepTable::Positions => &self.tables.positions,
            StepTable::Last => &self.tables.last,
            StepTable::Ids => panic!("token ids are read by embeddings only"),
        }
    }

    /// The parts of the spans that fall into the rows of `region`, rows counted from its first.
    pub(super) fn spans(&self, region: Region) -> impl Iterator<Item = Span<'_>> {
        self.tables.spans.iter().filter_map(move |span| cut(span, region))
    }
}

fn kv_slots(span: &SpanTable, page_tokens: usize) -> impl Iterator<Item = KvSlot> {
    let positions = span.position as usize..(span.position + span.num_rows) as usize;
    positions.map(move |position| KvSlot {
        page: span.pages[position / page_tokens],
        offset: (position % page_tokens) as u32,
    })
}

fn cut(span: &SpanTable, region: Region) -> Option<Span<'_>> {
    let first = span.first_row.max(region.first_row);
    let end = (span.first_row + span.num_rows).min(region.first_row + region.num_rows);
    (first < end).then(|| Span {
        first_row: (first - region.first_row) as usize,
        num_rows: (end - first) as usize,
        position: (span.position + (first - span.first_row)) as usize,
        pages: &span.pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::BufferId;

    #[test]
    fn spans_are_cut_at_the_region_and_keep_their_positions() {
        let decode = SpanTable { first_row: 0, num_rows: 1, position: 9, pages: vec![4, 2] };
        let prefill = SpanTable { first_row: 1, num_rows: 6, position: 30, pages: vec![7, 8] };
        let tables = StepTables { spans: vec![decode, prefill], ..StepTables::default() };
        let step = CurrentStep::new(1, "test", Arc::new(tables), 32);
        let spans = |first_row, num_rows| {
            let region = Region { buffer: BufferId(0), first_row, num_rows, column: 0, num_columns: 1 };
            let facts = |span: Span<'_>| (span.first_row, span.num_rows, span.position);
            step.spans(region).map(facts).collect::<Vec<_>>()
        };
        assert_eq!(spans(0, 7), [(0, 1, 9), (1, 6, 30)]);
        assert_eq!(spans(0, 1), [(0, 1, 9)]);
        assert_eq!(spans(3, 2), [(0, 2, 32)]);
        assert_eq!(spans(7, 0), []);
        let slots: Vec<_> = step.kv_slots.iter().map(|slot| (slot.page, slot.offset)).collect();
        assert_eq!(slots, [(4, 9), (7, 30), (7, 31), (8, 0), (8, 1), (8, 2), (8, 3)]);
    }
}
