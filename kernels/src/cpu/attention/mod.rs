//! Causal attention over the paged KV cache, for decode and prefill alike.
//!
//! An item is one kv head of one span for up to [`ITEM_ROWS`] query rows. A *query row* is one head's query of one
//! token; the heads of a group share K and V, so they are rows of one tile, and so are neighbouring tokens of a prefill
//! span. Each query row runs an online softmax (Milakov and Gimelshein, arXiv 1805.02867) over key blocks of
//! [`KEY_BLOCK`](super::KEY_BLOCK) absolute positions, in ascending order; its arithmetic never depends on the rows
//! beside it. A sliding window bounds the blocks that are read at all, so time grows with the window.

mod item;
mod scores;

use std::cell::RefCell;
use std::ops::Range;

use self::item::{Item, Scratch};
pub use self::scores::{Scores, alibi_slopes};
use super::isa::{Kernel, dispatch};
use super::kv::KvPages;
use super::vector::Vector;
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
    /// Position of the first row; row `i` attends to cache positions `0..=position + i`, its own included, or to the
    /// last of them that a window shows.
    pub position: usize,
    /// The sequence's pages: position `p` is token `p % page_tokens` of page `pages[p / page_tokens]`. Pages that no row
    /// sees through its window may be any numbers.
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

/// `out = softmax(scores(q . K^T)) . V`, causal, for some items of [`attention_items`].
///
/// `q` is `[rows, heads * head]`, `out` `[rows, heads * value]`; query head `h` reads kv head `h / (heads / kv_heads)`. Every position that
/// a row attends to has been written; other slots may hold anything. `out` must not overlap `q`.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the item count, a span leaves the rows, or its pages are too few or not
/// among the layer's.
pub fn attention(
    q: MatRef<'_>,
    spans: &[Span<'_>],
    pages: &KvPages,
    scores: &Scores<'_>,
    out: MatMut<'_>,
    items: Range<usize>,
) {
    assert!(q.columns().is_multiple_of(pages.head()), "{} columns of heads of {}", q.columns(), pages.head());
    let heads = q.columns() / pages.head();
    check_shape("out", (out.rows(), out.columns()), (q.rows(), heads * pages.value()));
    scores.check(heads);
    check_items(&items, attention_items(spans, heads, pages));
    let group = group_size(heads, pages);
    let mut first_item = 0;
    for span in spans {
        let end_item = first_item + span_items(span, group, pages);
        let mine = items.start.max(first_item)..items.end.min(end_item);
        if !mine.is_empty() {
            check_span(span, q.rows(), pages, scores);
            let operands = Operands { q, span, pages, scores, group, out };
            attend(&operands, mine.start - first_item..mine.end - first_item);
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
    if group == 0 { 0 } else { span.num_rows.div_ceil(item_tokens(group)) * pages.kv_heads() }
}

fn check_span(span: &Span<'_>, rows: usize, pages: &KvPages, scores: &Scores<'_>) {
    assert!(span.first_row + span.num_rows <= rows, "{span:?} of {rows} rows");
    let first = scores.first_key(span.position) / pages.page_tokens();
    let end = (span.position + span.num_rows).div_ceil(pages.page_tokens());
    assert!(end <= span.pages.len(), "{span:?} needs {end} pages");
    assert!(span.pages[first..end].iter().all(|&page| (page as usize) < pages.num_pages()), "{span:?} in {pages:?}");
}

/// What all items of a span share; checked by [`attention`].
struct Operands<'a> {
    q: MatRef<'a>,
    span: &'a Span<'a>,
    pages: &'a KvPages,
    scores: &'a Scores<'a>,
    /// Query heads of a kv head.
    group: usize,
    out: MatMut<'a>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn attend(operands: &Operands<'_>, items: Range<usize>) {
    SCRATCH.with_borrow_mut(|scratch| dispatch(Attend { operands, items, scratch }));
}

struct Attend<'a> {
    operands: &'a Operands<'a>,
    items: Range<usize>,
    scratch: &'a mut Scratch,
}

impl Kernel for Attend<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Attend { operands, items, scratch } = self;
        let num_rows = operands.span.num_rows;
        let per_item = item_tokens(operands.group);
        let items_per_head = num_rows.div_ceil(per_item);
        for item in items {
            let first = item % items_per_head * per_item;
            let tokens = first..num_rows.min(first + per_item);
            Item::new(operands, item / items_per_head, tokens, scratch).run::<V>();
        }
    }
}
