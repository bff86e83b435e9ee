//! Causal attention over the paged KV cache, for decode and prefill alike.
//!
//! An item is one kv head of one span for up to [`ITEM_ROWS`] query rows. A *query row* is one head's query of one
//! token; the heads of a group share K and V, so they are rows of one tile, and so are neighbouring tokens of a prefill
//! span. Each query row runs an online softmax (Milakov and Gimelshein, arXiv 1805.02867) over key blocks of
//! [`KEY_BLOCK`] absolute positions, in ascending order; its arithmetic never depends on the rows beside it.
#![allow(unsafe_code, reason = "tiles address raw rows and cache blocks")]

use std::cell::RefCell;
use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::kv::{KEY_BLOCK, KvPages};
use super::math;
use super::tile::{Tile, multiply};
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// Query rows of an item, so that queries, scores, results and a key block fit the first-level cache together.
const ITEM_ROWS: usize = 48;

/// Consecutive rows of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// First row of q and of the result.
    pub first_row: usize,
    /// Number of rows.
    pub num_rows: usize,
    /// Position of the first row; row `i` attends to cache positions `0..=position + i`, its own included.
    pub position: usize,
    /// The sequence's pages: position `p` is token `p % page_tokens` of page `pages[p / page_tokens]`.
    pub pages: &'a [u32],
}

/// Number of work items of attention of `heads` query heads over these spans.
///
/// # Panics
/// If `heads` is not a multiple of the pages' kv heads.
pub fn attention_items(spans: &[Span<'_>], heads: usize, pages: &KvPages) -> usize {
    let group = group_size(heads, pages);
    spans.iter().map(|span| span_items(span, group, pages)).sum()
}

/// `out = softmax(scale * q . K^T) . V`, causal, for some items of [`attention_items`].
///
/// `q` and `out` are `[rows, heads * head]`; query head `h` reads kv head `h / (heads / kv_heads)`. Every position that
/// a row attends to has been written; other slots may hold anything. `out` must not overlap `q`.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the item count, a span leaves the rows, or its pages are too few or not
/// among the layer's.
pub fn attention(q: MatRef<'_>, spans: &[Span<'_>], pages: &KvPages, scale: f32, out: MatMut<'_>, items: Range<usize>) {
    assert!(q.columns().is_multiple_of(pages.head()), "{} columns of heads of {}", q.columns(), pages.head());
    check_shape("out", (out.rows(), out.columns()), (q.rows(), q.columns()));
    let heads = q.columns() / pages.head();
    check_items(&items, attention_items(spans, heads, pages));
    let group = group_size(heads, pages);
    let mut first_item = 0;
    for span in spans {
        let end_item = first_item + span_items(span, group, pages);
        let mine = items.start.max(first_item)..items.end.min(end_item);
        if !mine.is_empty() {
            check_span(span, q.rows(), pages);
            dispatch(SpanAttention {
                q,
                span,
                pages,
                scale,
                group,
                out,
                items: mine.start - first_item..mine.end - first_item,
            });
        }
        first_item = end_item;
    }
}

fn group_size(heads: usize, pages: &KvPages) -> usize {
    assert!(heads.is_multiple_of(pages.kv_heads()), "{heads} heads over {} kv heads", pages.kv_heads());
    heads / pages.kv_heads()
}

/// Tokens of an item.
fn item_tokens(group: usize) -> usize {
    (ITEM_ROWS / group.max(1)).max(1)
}

fn span_items(span: &Span<'_>, group: usize, pages: &KvPages) -> usize {
    span.num_rows.div_ceil(item_tokens(group)) * pages.kv_heads()
}

fn check_span(span: &Span<'_>, rows: usize, pages: &KvPages) {
    assert!(span.first_row + span.num_rows <= rows, "{span:?} of {rows} rows");
    let needed = (span.position + span.num_rows).div_ceil(pages.page_tokens());
    assert!(needed <= span.pages.len(), "{span:?} needs {needed} pages");
    assert!(span.pages[..needed].iter().all(|&page| (page as usize) < pages.num_pages()), "{span:?} in {pages:?}");
}

/// Items of one span.
struct SpanAttention<'a> {
    q: MatRef<'a>,
    span: &'a Span<'a>,
    pages: &'a KvPages,
    scale: f32,
    group: usize,
    out: MatMut<'a>,
    items: Range<usize>,
}

/// A thread's working memory, grown to the largest item seen.
#[derive(Default)]
struct Scratch {
    /// Scaled queries, `[rows][head]`.
    queries: Vec<f32>,
    /// Scores, then probabilities, of one key block, `[rows][KEY_BLOCK]`.
    scores: Vec<f32>,
    /// Weighted sums of V, `[rows][padded_head]`.
    sums: Vec<f32>,
    /// The largest score so far, per row.
    largest: Vec<f32>,
    /// The softmax denominator, `[rows][LANES]`: summed over lanes at the end.
    totals: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Makes room for an item and resets the running softmax.
    fn reset(&mut self, rows: usize, pages: &KvPages) {
        grow(&mut self.queries, rows * pages.head());
        grow(&mut self.scores, rows * KEY_BLOCK);
        grow(&mut self.sums, rows * pages.padded_head());
        grow(&mut self.largest, rows);
        grow(&mut self.totals, rows * LANES);
        self.sums[..rows * pages.padded_head()].fill(0.0);
        self.largest[..rows].fill(f32::NEG_INFINITY);
        self.totals[..rows * LANES].fill(0.0);
    }
}

fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

/// Tokens `tokens` of the span under one kv head.
struct Item {
    kv_head: usize,
    tokens: Range<usize>,
}

impl Kernel for SpanAttention<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let per_item = item_tokens(self.group);
        let items_per_head = self.span.num_rows.div_ceil(per_item);
        SCRATCH.with_borrow_mut(|scratch| {
            for item in self.items.clone() {
                let first = item % items_per_head * per_item;
                let tokens = first..self.span.num_rows.min(first + per_item);
                self.item::<V>(&Item { kv_head: item / items_per_head, tokens }, scratch);
            }
        });
    }
}

impl SpanAttention<'_> {
    #[inline(always)]
    fn item<V: Vector>(&self, item: &Item, scratch: &mut Scratch) {
        scratch.reset(item.tokens.len() * self.group, self.pages);
        self.load_queries::<V>(item, scratch);
        let last_position = self.span.position + item.tokens.end - 1;
        for first_key in (0..=last_position).step_by(KEY_BLOCK) {
            self.key_block::<V>(item, first_key, scratch);
        }
        self.store_results::<V>(item, scratch);
    }

    /// The heads of one token's group, side by side in a row of q and out.
    fn group_columns(&self, item: &Item, token: usize) -> (usize, usize) {
        (self.span.first_row + item.tokens.start + token, item.kv_head * self.group * self.pages.head())
    }

    #[inline(always)]
    fn load_queries<V: Vector>(&self, item: &Item, scratch: &mut Scratch) {
        let length = self.group * self.pages.head();
        for (token, queries) in scratch.queries.chunks_exact_mut(length).take(item.tokens.len()).enumerate() {
            let (row, column) = self.group_columns(item, token);
            let q = self.q.row(row).wrapping_add(column);
            for at in (0..length).step_by(LANES) {
                // SAFETY: q's row has a whole group from `column`, and `queries` is as long.
                unsafe {
                    let scaled = load_at::<V>(q, at, length).mul(V::splat(self.scale));
                    store_at(scaled, queries.as_mut_ptr(), at, length);
                }
            }
        }
    }

    /// Keys of the block from `first_key` that query row `row` of the item attends to.
    #[inline(always)]
    fn visible(&self, item: &Item, first_key: usize, row: usize) -> usize {
        let end = self.span.position + item.tokens.start + row / self.group + 1;
        end.saturating_sub(first_key).min(KEY_BLOCK)
    }

    /// Takes one key block into every row that sees any of it.
    #[inline(always)]
    fn key_block<V: Vector>(&self, item: &Item, first_key: usize, scratch: &mut Scratch) {
        let page = |key: usize| self.span.pages[key / self.pages.page_tokens()] as usize;
        let block = |key: usize| self.pages.key_block(page(key), item.kv_head, key % self.pages.page_tokens());
        let keys = block(first_key).cast_const();
        let values = keys.wrapping_add(self.pages.key_bytes());
        let last_position = self.span.position + item.tokens.end - 1;
        let next = if first_key + KEY_BLOCK <= last_position { block(first_key + KEY_BLOCK) } else { keys.cast_mut() };

        let num_rows = item.tokens.len() * self.group;
        let blind_tokens = first_key.saturating_sub(self.span.position + item.tokens.start);
        let mut rows = blind_tokens * self.group..num_rows;
        let num_blocks = rows.len().div_ceil(V::TILE_ROWS);
        for block in (1..=num_blocks).rev() {
            let tile = rows.start..rows.start + rows.len().div_ceil(block);
            rows.start = tile.end;
            let last = block == 1;
            self.scores::<V>(keys, if last { values } else { keys }, tile.clone(), scratch);
            for row in tile.clone() {
                self.softmax::<V>(row, self.visible(item, first_key, row), scratch);
            }
            let visible = |row| self.visible(item, first_key, row);
            self.weigh::<V>(values, if last { next } else { values }, tile, visible, scratch);
        }
    }

    /// Scores of a tile of rows against 32 keys.
    #[inline(always)]
    fn scores<V: Vector>(&self, keys: *const u8, ahead: *const u8, rows: Range<usize>, scratch: &mut Scratch) {
        let head = self.pages.head();
        let tile = Tile {
            a: scratch.queries[rows.start * head..rows.end * head].as_ptr(),
            a_stride: head,
            depth: head,
            b: keys,
            panel_bytes: 0,
            c: scratch.scores[rows.start * KEY_BLOCK..rows.end * KEY_BLOCK].as_mut_ptr(),
            c_stride: KEY_BLOCK,
            columns: KEY_BLOCK,
            accumulate: false,
            ahead,
            ahead_step: self.pages.element().line_bytes(),
        };
        // SAFETY: the slices hold these rows, a block's K is one panel of `head` lines, and `key_block` cut the rows
        // into tiles of the path that `dispatch` entered.
        unsafe { multiply::<V>(self.pages.element(), rows.len(), 1, &tile) }
    }

    /// Turns a row's scores into probabilities relative to the largest score so far, and rescales what was summed
    /// before to it. Keys that the row does not see are replaced, whatever their slots hold.
    #[inline(always)]
    fn softmax<V: Vector>(&self, row: usize, visible: usize, scratch: &mut Scratch) {
        let scores = scratch.scores[row * KEY_BLOCK..(row + 1) * KEY_BLOCK].as_mut_ptr();
        let totals = scratch.totals[row * LANES..(row + 1) * LANES].as_mut_ptr();
        let nothing = V::splat(f32::NEG_INFINITY);
        // SAFETY: `scores` is a row of two vectors, `totals` of one.
        unsafe {
            let low = V::load(scores).first_or(visible, nothing);
            let high = V::load(scores.add(LANES)).first_or(visible.saturating_sub(LANES), nothing);
            let before = scratch.largest[row];
            let block_largest = low.max(high).max_lane();
            let largest = if before > block_largest { before } else { block_largest };
            let low = math::exp(low.sub(V::splat(largest)));
            let high = math::exp(high.sub(V::splat(largest)));
            low.store(scores);
            high.store(scores.add(LANES));
            let shrink = math::exp(V::splat(before - largest));
            V::load(totals).mul_add(shrink, low.add(high)).store(totals);
            if largest > before {
                self.rescale(row, shrink, scratch);
            }
            scratch.largest[row] = largest;
        }
    }

    #[inline(always)]
    fn rescale<V: Vector>(&self, row: usize, factor: V, scratch: &mut Scratch) {
        let length = self.pages.padded_head();
        for part in scratch.sums[row * length..(row + 1) * length].chunks_exact_mut(LANES) {
            // SAFETY: the part is one vector long.
            unsafe { V::load(part.as_ptr()).mul(factor).store(part.as_mut_ptr()) }
        }
    }

    /// Adds a tile of rows' weighted values: first the tokens that all of them see, then each row's further ones.
    #[inline(always)]
    fn weigh<V: Vector>(
        &self,
        values: *const u8,
        ahead: *const u8,
        rows: Range<usize>,
        visible: impl Fn(usize) -> usize,
        scratch: &mut Scratch,
    ) {
        let common = visible(rows.start);
        self.add_values::<V>(values, ahead, rows.clone(), 0..common, scratch);
        let mut first = rows.start;
        while first < rows.end {
            let seen = visible(first);
            let same = (first..rows.end).take_while(|&row| visible(row) == seen).count();
            if seen > common {
                self.add_values::<V>(values, values, first..first + same, common..seen, scratch);
            }
            first += same;
        }
    }

    #[inline(always)]
    fn add_values<V: Vector>(
        &self,
        values: *const u8,
        ahead: *const u8,
        rows: Range<usize>,
        tokens: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let length = self.pages.padded_head();
        let num_panels = length / KEY_BLOCK;
        let panels_per_tile = if rows.len() <= V::WIDE_TILE_ROWS { 2 } else { 1 };
        let line_bytes = self.pages.element().line_bytes();
        for panel in (0..num_panels).step_by(panels_per_tile) {
            let panels = panels_per_tile.min(num_panels - panel);
            let panel_offset = panel * self.pages.value_panel_bytes();
            let tile = Tile {
                a: scratch.scores[rows.start * KEY_BLOCK + tokens.start..].as_ptr(),
                a_stride: KEY_BLOCK,
                depth: tokens.len(),
                b: values.wrapping_add(panel_offset + tokens.start * line_bytes),
                panel_bytes: self.pages.value_panel_bytes(),
                c: scratch.sums[rows.start * length + panel * KEY_BLOCK..].as_mut_ptr(),
                c_stride: length,
                columns: panels * KEY_BLOCK,
                accumulate: true,
                ahead: ahead.wrapping_add(panel_offset),
                ahead_step: line_bytes,
            };
            // SAFETY: the slices hold these rows, a panel of V has a line for each token of the block, and the shape is
            // one of the path that `dispatch` entered.
            unsafe { multiply::<V>(self.pages.element(), rows.len(), panels, &tile) }
        }
    }

    #[inline(always)]
    fn store_results<V: Vector>(&self, item: &Item, scratch: &Scratch) {
        let (head, length) = (self.pages.head(), self.pages.padded_head());
        for row in 0..item.tokens.len() * self.group {
            let (out_row, column) = self.group_columns(item, row / self.group);
            let out = self.out.row(out_row).wrapping_add(column + row % self.group * head);
            let sums = scratch.sums[row * length..(row + 1) * length].as_ptr();
            // SAFETY: the totals of a row are one vector; out's row has a whole head here, and the sums are longer.
            unsafe {
                let total = V::splat(V::load(scratch.totals[row * LANES..(row + 1) * LANES].as_ptr()).sum());
                for at in (0..head).step_by(LANES) {
                    store_at(load_at::<V>(sums, at, head).div(total), out, at, head);
                }
            }
        }
    }
}
