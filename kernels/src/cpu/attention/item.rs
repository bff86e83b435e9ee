//! One item: some tokens of a span under one kv head.
#![allow(unsafe_code, reason = "tiles address raw rows and cache blocks")]

use std::ops::Range;

use super::Operands;
use super::scores::Change;
use crate::cpu::kv::KEY_BLOCK;
use crate::cpu::math;
use crate::cpu::tile::{Tile, multiply};
use crate::cpu::vector::{LANES, Vector, load_at, store_at};

/// A thread's working memory, grown to the largest item seen.
#[derive(Default)]
pub(super) struct Scratch {
    /// Scaled queries, `[rows][head]`.
    queries: Vec<f32>,
    /// Scores, then probabilities, of one key block, `[rows][KEY_BLOCK]`.
    scores: Vec<f32>,
    /// Weighted sums of V, `[rows][padded_value]`.
    sums: Vec<f32>,
    /// The largest score so far, per row.
    largest: Vec<f32>,
    /// The softmax denominator, `[rows][LANES]`: summed over lanes at the end.
    totals: Vec<f32>,
}

impl Scratch {
    /// Makes room for an item and resets the running softmax.
    fn reset(&mut self, rows: usize, head: usize, padded_value: usize) {
        grow(&mut self.queries, rows * head);
        grow(&mut self.scores, rows * KEY_BLOCK);
        grow(&mut self.sums, rows * padded_value).fill(0.0);
        grow(&mut self.largest, rows).fill(f32::NEG_INFINITY);
        grow(&mut self.totals, rows * LANES).fill(0.0);
    }

    /// Starts each row's softmax with its head's sink: the largest score so far, e^0 of the denominator.
    fn sink(&mut self, rows: usize, sinks: &[f32]) {
        for row in 0..rows {
            self.largest[row] = sinks[row % sinks.len()];
            self.totals[row * LANES] = 1.0;
        }
    }
}

fn grow(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// How many lanes of a block's second vector lie below `key`.
#[inline(always)]
fn upper(key: usize) -> usize {
    key.saturating_sub(LANES)
}

/// Query rows of the item: token `row / group`, head `row % group` of the group.
pub(super) struct Item<'a> {
    operands: &'a Operands<'a>,
    kv_head: usize,
    /// Tokens of the span.
    tokens: Range<usize>,
    num_rows: usize,
    scratch: &'a mut Scratch,
}

/// Which keys of a block each query row attends to; those of later rows begin and end no earlier.
#[derive(Clone, Copy)]
struct Visible {
    first_key: usize,
    /// End of what the item's first token attends to: one past its own position.
    first_end: usize,
    group: usize,
    /// As in [`Scores`](super::Scores).
    window: usize,
    /// Whether every row of the item sees every key of the block, as most do.
    is_whole: bool,
}

impl Visible {
    #[inline(always)]
    fn new(item: &Item<'_>, first_key: usize) -> Self {
        let (first_end, window) = (item.first_position() + 1, item.operands.scores.window);
        let is_whole = first_end >= first_key + KEY_BLOCK
            && (window == 0 || item.last_position() < window.saturating_add(first_key));
        Visible { first_key, first_end, group: item.operands.group, window, is_whole }
    }

    #[inline(always)]
    fn end(&self, row: usize) -> usize {
        (self.first_end + row / self.group).saturating_sub(self.first_key).min(KEY_BLOCK)
    }

    #[inline(always)]
    fn start(&self, row: usize) -> usize {
        if self.window == 0 {
            return 0;
        }
        (self.first_end + row / self.group).saturating_sub(self.window).saturating_sub(self.first_key).min(KEY_BLOCK)
    }

    #[inline(always)]
    fn keys(&self, row: usize) -> Range<usize> {
        self.start(row)..self.end(row)
    }

    /// Which of the item's `tokens` see any key of the block.
    #[inline(always)]
    fn tokens(&self, tokens: usize) -> Range<usize> {
        let blind = (self.first_key + 1).saturating_sub(self.first_end);
        let reach = self.window.saturating_add(self.first_key + KEY_BLOCK);
        let end = if self.window == 0 { tokens } else { tokens.min(reach.saturating_sub(self.first_end)) };
        blind..end
    }
}

impl<'a> Item<'a> {
    #[inline(always)]
    pub(super) fn new(
        operands: &'a Operands<'a>,
        kv_head: usize,
        tokens: Range<usize>,
        scratch: &'a mut Scratch,
    ) -> Self {
        let num_rows = tokens.len() * operands.group;
        scratch.reset(num_rows, operands.pages.head(), operands.pages.padded_value());
        if let Some(sinks) = operands.scores.sinks {
            scratch.sink(num_rows, &sinks[kv_head * operands.group..(kv_head + 1) * operands.group]);
        }
        Item { operands, kv_head, tokens, num_rows, scratch }
    }

    #[inline(always)]
    pub(super) fn run<V: Vector>(mut self) {
        self.load_queries::<V>();
        let first = self.operands.scores.first_key(self.first_position());
        for first_key in (first - first % KEY_BLOCK..=self.last_position()).step_by(KEY_BLOCK) {
            self.key_block::<V>(first_key);
        }
        self.store_results::<V>();
    }

    fn first_position(&self) -> usize {
        self.operands.span.position + self.tokens.start
    }

    fn last_position(&self) -> usize {
        self.operands.span.position + self.tokens.end - 1
    }

    /// Row and first head, in q and out, of the group's heads of the item's `token`.
    fn place(&self, token: usize) -> (usize, usize) {
        let row = self.operands.span.first_row + self.tokens.start + token;
        (row, self.kv_head * self.operands.group)
    }

    #[inline(always)]
    fn load_queries<V: Vector>(&mut self) {
        let length = self.operands.group * self.operands.pages.head();
        let scale = V::splat(self.operands.scores.scale);
        for token in 0..self.tokens.len() {
            let (row, first_head) = self.place(token);
            let q = self.operands.q.row(row).wrapping_add(first_head * self.operands.pages.head());
            let queries = self.scratch.queries[token * length..(token + 1) * length].as_mut_ptr();
            for at in (0..length).step_by(LANES) {
                // SAFETY: q's row has a whole group from `first_head`, and `queries` is as long.
                unsafe { store_at(load_at::<V>(q, at, length).mul(scale), queries, at, length) }
            }
        }
    }

    /// Storage of the key block from position `first_key`: its K; V follows.
    #[inline(always)]
    fn block(&self, first_key: usize) -> *const u8 {
        let pages = self.operands.pages;
        let page = self.operands.span.pages[first_key / pages.page_tokens()] as usize;
        pages.key_block(page, self.kv_head, first_key % pages.page_tokens())
    }

    /// Takes one key block into every row that sees any of it. The last tile fetches the next block.
    #[inline(always)]
    fn key_block<V: Vector>(&mut self, first_key: usize) {
        let keys = self.block(first_key);
        let values = keys.wrapping_add(self.operands.pages.key_bytes());
        let next_key = first_key + KEY_BLOCK;
        let next = if next_key <= self.last_position() { self.block(next_key) } else { keys };

        let (visible, group) = (Visible::new(self, first_key), self.operands.group);
        let tokens = visible.tokens(self.tokens.len());
        let mut rows = tokens.start * group..tokens.end * group;
        for tiles_left in (1..=rows.len().div_ceil(V::TILE_ROWS)).rev() {
            let tile = rows.start..rows.start + rows.len().div_ceil(tiles_left);
            rows.start = tile.end;
            let last = tiles_left == 1;
            let ahead = if last { next } else { keys };
            self.scores::<V>(keys, ahead, tile.clone());
            if self.operands.scores.are_changed() {
                self.change::<V>(first_key, tile.clone());
            }
            self.softmax::<V>(tile.clone(), visible);
            self.weigh::<V>(values, ahead.wrapping_add(self.operands.pages.key_bytes()), tile, visible);
        }
    }

    /// Scores of a tile of rows against the block's keys.
    #[inline(always)]
    fn scores<V: Vector>(&mut self, keys: *const u8, ahead: *const u8, rows: Range<usize>) {
        let pages = self.operands.pages;
        let head = pages.head();
        let tile = Tile {
            a: self.scratch.queries[rows.start * head..rows.end * head].as_ptr(),
            a_stride: head,
            depth: head,
            b: keys,
            panel_bytes: 0,
            c: self.scratch.scores[rows.start * KEY_BLOCK..rows.end * KEY_BLOCK].as_mut_ptr(),
            c_stride: KEY_BLOCK,
            columns: KEY_BLOCK,
            accumulate: false,
            ahead,
            ahead_step: pages.element().line_bytes(),
        };
        // SAFETY: the slices hold these rows, a block's K is one panel of `head` lines, and `key_block` cut the rows
        // into tiles of the path that `dispatch` entered.
        unsafe { multiply::<V>(pages.element(), rows.len(), 1, &tile) }
    }

    /// From a tile's scaled products to its scores. A function of its own, so that plain attention is not compiled
    /// around it.
    #[inline(always)]
    fn change<V: Vector>(&mut self, first_key: usize, rows: Range<usize>) {
        let (group, first_position) = (self.operands.group, self.first_position());
        let change = Change {
            by: self.operands.scores,
            scores: &mut self.scratch.scores[rows.start * KEY_BLOCK..rows.end * KEY_BLOCK],
            first_row: rows.start,
            group,
            first_head: self.kv_head * group,
            first_position,
            first_key,
        };
        // SAFETY: `dispatch` entered this path.
        unsafe { V::enter(change) }
    }

    /// Turns a tile's scores into probabilities relative to each row's largest score so far, and shrinks what the row
    /// summed before to it.
    #[inline(always)]
    fn softmax<V: Vector>(&mut self, rows: Range<usize>, visible: Visible) {
        // A tile has fewer rows than a vector has lanes: the rows' shrinking factors are one exponential.
        let mut before = [0.0; LANES];
        let mut shrink = [0.0; LANES];
        for (lane, row) in rows.clone().enumerate() {
            before[lane] = self.scratch.largest[row];
            self.scratch.largest[row] = self.mask::<V>(row, visible);
            shrink[lane] = before[lane] - self.scratch.largest[row];
        }
        // SAFETY: the array is one vector.
        unsafe { math::exp(V::load(shrink.as_ptr())).store(shrink.as_mut_ptr()) };
        for (lane, row) in rows.enumerate() {
            self.exponentials::<V>(row, shrink[lane]);
            if self.scratch.largest[row] > before[lane] {
                self.rescale::<V>(row, shrink[lane]);
            }
        }
    }

    /// Replaces the scores of keys that the row does not see, whatever their slots hold; returns the largest score of
    /// the row up to and including this block.
    #[inline(always)]
    fn mask<V: Vector>(&mut self, row: usize, visible: Visible) -> f32 {
        let scores = self.scratch.scores[row * KEY_BLOCK..(row + 1) * KEY_BLOCK].as_mut_ptr();
        let nothing = V::splat(f32::NEG_INFINITY);
        // SAFETY: `scores` is a row of two vectors.
        let (low, high) = unsafe { (V::load(scores), V::load(scores.add(LANES))) };
        let (low, high) = if visible.is_whole {
            (low, high)
        } else {
            let visible = visible.keys(row);
            let (low, high) = (low.first_or(visible.end, nothing), high.first_or(upper(visible.end), nothing));
            let (low, high) = (nothing.first_or(visible.start, low), nothing.first_or(upper(visible.start), high));
            // SAFETY: as above.
            unsafe {
                low.store(scores);
                high.store(scores.add(LANES));
            }
            (low, high)
        };
        let (block, before) = (low.max(high).max_lane(), self.scratch.largest[row]);
        if before > block { before } else { block }
    }

    #[inline(always)]
    fn exponentials<V: Vector>(&mut self, row: usize, shrink: f32) {
        let scores = self.scratch.scores[row * KEY_BLOCK..(row + 1) * KEY_BLOCK].as_mut_ptr();
        let totals = self.scratch.totals[row * LANES..(row + 1) * LANES].as_mut_ptr();
        let largest = V::splat(self.scratch.largest[row]);
        // SAFETY: `scores` is a row of two vectors, `totals` of one.
        unsafe {
            let low = math::exp(V::load(scores).sub(largest));
            let high = math::exp(V::load(scores.add(LANES)).sub(largest));
            low.store(scores);
            high.store(scores.add(LANES));
            V::load(totals).mul_add(V::splat(shrink), low.add(high)).store(totals);
        }
    }

    #[inline(always)]
    fn rescale<V: Vector>(&mut self, row: usize, factor: f32) {
        let length = self.operands.pages.padded_value();
        let sums = self.scratch.sums[row * length..(row + 1) * length].as_mut_ptr();
        for at in (0..length).step_by(LANES) {
            // SAFETY: the row is `length` long, a multiple of the vector.
            unsafe { V::load(sums.add(at)).mul(V::splat(factor)).store(sums.add(at)) }
        }
    }

    /// Adds a tile's weighted values: those of the keys that all of its rows see at once, each token's further ones
    /// before and after. Each row's keys are added in ascending order.
    #[inline(always)]
    fn weigh<V: Vector>(&mut self, values: *const u8, ahead: *const u8, rows: Range<usize>, visible: Visible) {
        if visible.is_whole {
            return self.add_values::<V>(values, ahead, rows, 0..KEY_BLOCK);
        }
        let common = visible.start(rows.end - 1)..visible.end(rows.start);
        if visible.start(rows.start) < common.start {
            self.add_apart::<V>(values, rows.clone(), visible, 0..common.start);
        }
        if !common.is_empty() {
            self.add_values::<V>(values, ahead, rows.clone(), common.clone());
        }
        if common.end < visible.end(rows.end - 1) {
            self.add_apart::<V>(values, rows, visible, common.start.max(common.end)..KEY_BLOCK);
        }
    }

    /// Adds the values of the keys among `keys` that each token's rows see.
    #[inline(always)]
    fn add_apart<V: Vector>(&mut self, values: *const u8, rows: Range<usize>, visible: Visible, keys: Range<usize>) {
        let group = self.operands.group;
        let mut first = rows.start;
        while first < rows.end {
            let end = rows.end.min((first / group + 1) * group);
            let seen = visible.start(first).max(keys.start)..visible.end(first).min(keys.end);
            if !seen.is_empty() {
                self.add_values::<V>(values, values, first..end, seen);
            }
            first = end;
        }
    }

    #[inline(always)]
    fn add_values<V: Vector>(&mut self, values: *const u8, ahead: *const u8, rows: Range<usize>, tokens: Range<usize>) {
        let pages = self.operands.pages;
        let (length, line_bytes) = (pages.padded_value(), pages.element().line_bytes());
        let num_panels = length / KEY_BLOCK;
        let panels_per_tile = if rows.len() <= V::WIDE_TILE_ROWS { 2 } else { 1 };
        for panel in (0..num_panels).step_by(panels_per_tile) {
            let panels = panels_per_tile.min(num_panels - panel);
            let panel_offset = panel * pages.value_panel_bytes();
            let tile = Tile {
                a: self.scratch.scores[rows.start * KEY_BLOCK + tokens.start..].as_ptr(),
                a_stride: KEY_BLOCK,
                depth: tokens.len(),
                b: values.wrapping_add(panel_offset + tokens.start * line_bytes),
                panel_bytes: pages.value_panel_bytes(),
                c: self.scratch.sums[rows.start * length + panel * KEY_BLOCK..].as_mut_ptr(),
                c_stride: length,
                columns: panels * KEY_BLOCK,
                accumulate: true,
                ahead: ahead.wrapping_add(panel_offset),
                ahead_step: line_bytes,
            };
            // SAFETY: the slices hold these rows, a panel of V has a line for each token of the block, and the shape is
            // one of the path that `dispatch` entered.
            unsafe { multiply::<V>(pages.element(), rows.len(), panels, &tile) }
        }
    }

    #[inline(always)]
    fn store_results<V: Vector>(&self) {
        let (pages, group) = (self.operands.pages, self.operands.group);
        let (value, length) = (pages.value(), pages.padded_value());
        for row in 0..self.num_rows {
            let (out_row, first_head) = self.place(row / group);
            let out = self.operands.out.row(out_row).wrapping_add((first_head + row % group) * value);
            let sums = self.scratch.sums[row * length..(row + 1) * length].as_ptr();
            let totals = self.scratch.totals[row * LANES..(row + 1) * LANES].as_ptr();
            // SAFETY: the totals of a row are one vector; out's row has a whole head here, and the sums are longer.
            unsafe {
                let total = V::splat(V::load(totals).sum());
                for at in (0..value).step_by(LANES) {
                    store_at(load_at::<V>(sums, at, value).div(total), out, at, value);
                }
            }
        }
    }
}
