//! One layer's pages of the KV cache, and writing to them.
//!
//! A page is `[kv_head][key block]`, and a key block, [`KEY_BLOCK`] tokens of one head, is laid out for the attention
//! tile: first K as one panel `[head][32 tokens]` (a line holds one head element of 32 tokens, so that scores come out
//! a token per lane), then V as panels `[ceil(value / 32)][32 tokens][32 head elements]`. A head of V has
//! `value` elements, which may be more or fewer than the `head` of K.
#![allow(unsafe_code, reason = "pages are memory that a device owns")]

use std::ops::Range;

use super::element::{Bf16, Element, ElementType, F32, LINE_ELEMENTS};
use super::view::{MatRef, check_items, check_shape};

/// Tokens of a key block: the step of the online softmax, aligned to absolute position 0. A page holds whole blocks.
pub const KEY_BLOCK: usize = LINE_ELEMENTS;

/// Where a token's keys and values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSlot {
    /// Index of the page among the layer's pages.
    pub page: u32,
    /// Token within the page.
    pub offset: u32,
}

/// One layer's pages: addresses and sizes, shared by threads like [`MatMut`](super::MatMut).
#[derive(Clone, Copy, Debug)]
pub struct KvPages {
    base: *mut u8,
    element: ElementType,
    num_pages: usize,
    kv_heads: usize,
    head: usize,
    value: usize,
    page_tokens: usize,
}

// SAFETY: pages are an address and sizes; concurrent users write disjoint slots by `from_raw`'s contract.
unsafe impl Send for KvPages {}
// SAFETY: as above.
unsafe impl Sync for KvPages {}

impl KvPages {
    /// Bytes of one page of one layer: K of `head` and V of `value` elements per head.
    pub fn bytes_per_page(
        element: ElementType,
        kv_heads: usize,
        (head, value): (usize, usize),
        page_tokens: usize,
    ) -> usize {
        kv_heads * page_tokens.div_ceil(KEY_BLOCK) * block_bytes(element, head, value)
    }

    /// Pages at `base`, one after the other, in any state: K of `head` and V of `value` elements per head.
    ///
    /// # Safety
    /// `base` is readable and writable for `num_pages * bytes_per_page(..)` bytes as long as the value or a copy is in
    /// use (64-byte alignment is faster, not needed). No slot is written while another thread reads or writes it.
    ///
    /// # Panics
    /// If `page_tokens` is not a multiple of [`KEY_BLOCK`], or a size is zero.
    pub unsafe fn from_raw(
        base: *mut u8,
        element: ElementType,
        num_pages: usize,
        kv_heads: usize,
        (head, value): (usize, usize),
        page_tokens: usize,
    ) -> Self {
        assert!(page_tokens > 0 && page_tokens.is_multiple_of(KEY_BLOCK), "pages of {page_tokens} tokens");
        assert!(kv_heads > 0 && head > 0 && value > 0, "{kv_heads} heads of {head} and {value}");
        KvPages { base, element, num_pages, kv_heads, head, value, page_tokens }
    }

    /// How elements are stored.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Number of pages.
    pub fn num_pages(&self) -> usize {
        self.num_pages
    }

    /// Heads of K and V.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Elements of a head of K.
    pub fn head(&self) -> usize {
        self.head
    }

    /// Elements of a head of V.
    pub fn value(&self) -> usize {
        self.value
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Head elements of V in storage: whole lines.
    pub(crate) fn padded_value(&self) -> usize {
        self.value.next_multiple_of(LINE_ELEMENTS)
    }

    /// K of the key block that holds token `offset` of a page.
    pub(crate) fn key_block(&self, page: usize, kv_head: usize, offset: usize) -> *mut u8 {
        debug_assert!(page < self.num_pages && kv_head < self.kv_heads && offset < self.page_tokens);
        let blocks_per_page = self.page_tokens / KEY_BLOCK;
        let block = (page * self.kv_heads + kv_head) * blocks_per_page + offset / KEY_BLOCK;
        self.base.wrapping_add(block * block_bytes(self.element, self.head, self.value))
    }

    /// Distance from a block's K to its V.
    pub(crate) fn key_bytes(&self) -> usize {
        self.head * self.element.line_bytes()
    }

    /// Bytes of one panel of V: 32 tokens of 32 head elements.
    pub(crate) fn value_panel_bytes(&self) -> usize {
        KEY_BLOCK * self.element.line_bytes()
    }
}

fn block_bytes(element: ElementType, head: usize, value: usize) -> usize {
    (head + value.next_multiple_of(LINE_ELEMENTS)) * element.line_bytes()
}

/// Stores the keys and values of the rows `items`, rounded to the pages' element type.
///
/// `k` is `[rows, kv_heads * head]`, `v` `[rows, kv_heads * value]`; row `i` goes to `slots[i]`. Slots are distinct.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the rows or a slot leaves the pages.
pub fn kv_write(k: MatRef<'_>, v: MatRef<'_>, slots: &[KvSlot], pages: &KvPages, items: Range<usize>) {
    check_shape("k", (k.rows(), k.columns()), (slots.len(), pages.kv_heads * pages.head));
    check_shape("v", (v.rows(), v.columns()), (slots.len(), pages.kv_heads * pages.value));
    check_items(&items, slots.len());
    for row in items {
        let (page, offset) = (slots[row].page as usize, slots[row].offset as usize);
        assert!(page < pages.num_pages && offset < pages.page_tokens, "{:?} of {pages:?}", slots[row]);
        for kv_head in 0..pages.kv_heads {
            let k = k.row(row).wrapping_add(kv_head * pages.head);
            let v = v.row(row).wrapping_add(kv_head * pages.value);
            let block = pages.key_block(page, kv_head, offset);
            // SAFETY: the rows hold a head from these elements on; the block lies in the pages, as just checked.
            unsafe {
                match pages.element {
                    ElementType::Bf16 => write_token::<Bf16>(pages, k, v, block, offset % KEY_BLOCK),
                    ElementType::F32 => write_token::<F32>(pages, k, v, block, offset % KEY_BLOCK),
                }
            }
        }
    }
}

/// # Safety
/// `k` and `v` are readable for a head; `block` is a whole key block; `token < KEY_BLOCK`.
unsafe fn write_token<E: Element>(pages: &KvPages, k: *const f32, v: *const f32, block: *mut u8, token: usize) {
    let values = block.wrapping_add(pages.key_bytes());
    for i in 0..pages.head {
        // SAFETY: K has `head` lines.
        unsafe { E::write(block.add(i * E::LINE_BYTES), token, *k.add(i)) }
    }
    for i in 0..pages.value {
        let value_line = i / LINE_ELEMENTS * KEY_BLOCK + token;
        // SAFETY: V has 32 lines for each 32 head elements.
        unsafe {
            E::write(values.add(value_line * E::LINE_BYTES), i % LINE_ELEMENTS, *v.add(i));
        }
    }
}
