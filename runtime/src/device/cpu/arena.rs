//! The plans' activation buffers, in one block that all plans share: one plan runs at a time.
//!
//! Rows start at cache lines. A row that fills whole pages is padded by one more line, so that the rows of a column
//! do not all fall into one set of the cache.
//!
//! Views are checked against the buffer's bounds here. That no two launches touch one element at once, unless both
//! read it, is the schedule's promise: its verifier proves it within a step, and steps are kept apart by a barrier.
#![allow(unsafe_code, reason = "views of buffers that the schedule keeps apart")]

use trefoil_kernels::cpu::{MatMut, MatRef};

use super::block::Block;
use crate::launch::{BufferId, Region};
use crate::model::{BufferRows, BufferSpec};

/// f32 elements of a cache line.
const LINE: usize = 16;
/// f32 elements of a page of memory.
const PAGE: usize = 1024;

/// Most rows of each kind of buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLimits {
    pub(super) max_num_tokens: usize,
    pub(super) max_num_seqs: usize,
}

/// All buffers of all plans.
#[derive(Debug)]
pub(super) struct Arena {
    block: Block,
    buffers: Vec<Buffer>,
}

/// A buffer's place, in f32 elements.
#[derive(Debug, Clone, Copy)]
struct Buffer {
    first: usize,
    stride: usize,
    num_rows: usize,
    num_columns: usize,
}

impl Arena {
    /// Lays out each plan's buffers from the start of one block, and gives their ids plan by plan. `None` when the
    /// system has not that much memory.
    pub(super) fn new(plans: &[Vec<BufferSpec>], limits: RowLimits) -> Option<(Self, Vec<Vec<BufferId>>)> {
        let (mut buffers, mut ids, mut longest) = (Vec::new(), Vec::new(), 0);
        for specs in plans {
            let mut end = 0;
            let first_id = buffers.len();
            for spec in specs {
                let buffer = Buffer::new(spec, limits, end);
                end += buffer.num_rows * buffer.stride;
                buffers.push(buffer);
            }
            ids.push((first_id..buffers.len()).map(|id| BufferId(id as u16)).collect());
            longest = longest.max(end);
        }
        let mut block = Block::zeroed(longest * size_of::<f32>())?;
        if cfg!(debug_assertions) {
            block.poison();
        }
        Some((Self { block, buffers }, ids))
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.block.num_bytes()
    }

    /// # Panics
    /// If the region leaves its buffer.
    pub(super) fn read(&self, region: Region) -> MatRef<'_> {
        let (ptr, stride) = self.address(region);
        // SAFETY: `address` checked the bounds; the schedule orders writers and readers.
        unsafe { MatRef::from_raw(ptr, region.num_rows as usize, region.num_columns as usize, stride) }
    }

    /// # Panics
    /// If the region leaves its buffer.
    pub(super) fn write(&self, region: Region) -> MatMut<'_> {
        let (ptr, stride) = self.address(region);
        // SAFETY: `address` checked the bounds; the schedule orders launches, and a launch's items are disjoint.
        unsafe { MatMut::from_raw(ptr, region.num_rows as usize, region.num_columns as usize, stride) }
    }

    /// One row of a region, for the one launch and the one work item that it belongs to.
    ///
    /// # Panics
    /// If the region leaves its buffer or has no such row.
    #[allow(clippy::mut_from_ref, reason = "rows are handed out to one work item each")]
    pub(super) fn row_mut(&self, region: Region, row: usize) -> &mut [f32] {
        let (ptr, stride) = self.address(region);
        assert!(row < region.num_rows as usize, "row {row} of {region:?}");
        // SAFETY: `address` checked the bounds; the schedule orders launches, and only this row's item asks for it.
        unsafe { std::slice::from_raw_parts_mut(ptr.add(row * stride), region.num_columns as usize) }
    }

    /// The region's first element and the distance of its rows.
    fn address(&self, region: Region) -> (*mut f32, usize) {
        let buffer = &self.buffers[usize::from(region.buffer.0)];
        let (end_row, end_column) = (region.first_row + region.num_rows, region.column + region.num_columns);
        let fits = end_row as usize <= buffer.num_rows && end_column as usize <= buffer.num_columns;
        assert!(fits, "{region:?} leaves {buffer:?}");
        let first = buffer.first + region.first_row as usize * buffer.stride + region.column as usize;
        (self.block.start().cast::<f32>().wrapping_add(first), buffer.stride)
    }
}

impl Buffer {
    fn new(spec: &BufferSpec, limits: RowLimits, first: usize) -> Self {
        let num_rows = match spec.rows {
            BufferRows::Tokens => limits.max_num_tokens,
            BufferRows::Seqs => limits.max_num_seqs,
        };
        let whole_lines = spec.columns.next_multiple_of(LINE);
        let stride = if whole_lines.is_multiple_of(PAGE) { whole_lines + LINE } else { whole_lines };
        Self { first, stride, num_rows, num_columns: spec.columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RowLimits = RowLimits { max_num_tokens: 3, max_num_seqs: 2 };

    fn region(buffer: BufferId, first_row: u32, num_rows: u32, num_columns: u32) -> Region {
        Region { buffer, first_row, num_rows, column: 0, num_columns }
    }

    #[test]
    fn buffers_of_a_plan_are_disjoint_and_plans_share_the_block() {
        let tokens = BufferSpec { rows: BufferRows::Tokens, columns: 17 };
        let seqs = BufferSpec { rows: BufferRows::Seqs, columns: 2048 };
        let (arena, ids) = Arena::new(&[vec![tokens, seqs], vec![seqs]], LIMITS).unwrap();
        assert_eq!(arena.num_bytes(), 4 * (3 * 32 + 2 * (2048 + 16)));
        for (id, rows, columns) in [(ids[0][0], 3, 17), (ids[0][1], 2, 2048)] {
            (0..rows).for_each(|row| arena.row_mut(region(id, 0, rows as u32, columns), row).fill(f32::from(id.0)));
        }
        let first = |id: BufferId| arena.row_mut(region(id, 0, 1, 17), 0)[16];
        assert_eq!([first(ids[0][0]), first(ids[0][1])], [0.0, 1.0]);
        assert_eq!(arena.address(region(ids[1][0], 0, 1, 1)), (arena.block.start().cast(), 2064));
    }

    #[test]
    #[cfg(debug_assertions)]
    fn what_was_never_written_is_not_a_number() {
        let (arena, ids) = Arena::new(&[vec![BufferSpec { rows: BufferRows::Seqs, columns: 4 }]], LIMITS).unwrap();
        assert!(arena.row_mut(region(ids[0][0], 0, 2, 4), 1).iter().all(|value| value.is_nan()));
    }

    #[test]
    #[should_panic(expected = "leaves")]
    fn a_region_past_its_buffer_is_refused() {
        let (arena, ids) = Arena::new(&[vec![BufferSpec { rows: BufferRows::Tokens, columns: 4 }]], LIMITS).unwrap();
        arena.read(region(ids[0][0], 1, 3, 4));
    }
}
