//! The KV pages of all caches and layers, in one block.
//!
//! A page index means the same tokens in every layer of every cache, so a sequence has one page table.
#![allow(unsafe_code, reason = "pages are carved out of one block")]

use trefoil_kernels::cpu::{ElementType, KvPages};

use super::block::Block;
use crate::launch::CacheRef;
use crate::model::CacheSpec;

/// How KV pages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageShape {
    /// Type of an element.
    pub element: ElementType,
    /// Tokens of a page, a multiple of the kernels' key block.
    pub page_tokens: usize,
}

impl PageShape {
    /// Bytes of one page of one layer of a cache.
    fn layer_bytes(self, spec: &CacheSpec) -> usize {
        KvPages::bytes_per_page(self.element, spec.kv_heads, (spec.head, spec.value), self.page_tokens)
    }

    /// Bytes that one page index stands for, in all layers of all caches.
    pub fn page_bytes(self, caches: &[CacheSpec]) -> usize {
        caches.iter().map(|spec| spec.layers.len() * self.layer_bytes(spec)).sum()
    }
}

/// All pages.
#[derive(Debug)]
pub(super) struct Caches {
    /// By cache, then by layer of the model; `None` for a layer that does not have the cache.
    pages: Vec<Vec<Option<KvPages>>>,
    page_tokens: usize,
    block: Block,
}

impl Caches {
    /// `None` when the system has not that much memory.
    pub(super) fn new(specs: &[CacheSpec], shape: PageShape, num_pages: usize) -> Option<Self> {
        let block = Block::zeroed(shape.page_bytes(specs).checked_mul(num_pages)?)?;
        let mut first = block.start();
        let mut pages = Vec::new();
        for spec in specs {
            let mut by_layer = vec![None; spec.layers.iter().max().map_or(0, |last| last + 1)];
            for &layer in &spec.layers {
                // SAFETY: the block, which lives as long as `pages`, has room for all layers of all caches, one
                // after the other; the schedule orders writers and readers of a slot.
                let layer_pages = unsafe {
                    let widths = (spec.head, spec.value);
                    KvPages::from_raw(first, shape.element, num_pages, spec.kv_heads, widths, shape.page_tokens)
                };
                by_layer[layer] = Some(layer_pages);
                first = first.wrapping_add(num_pages * shape.layer_bytes(spec));
            }
            pages.push(by_layer);
        }
        Some(Self { pages, page_tokens: shape.page_tokens, block })
    }

    pub(super) fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.block.num_bytes()
    }

    /// # Panics
    /// If the layer has no such cache; generated code names only those that are in the model's own table.
    pub(super) fn layer(&self, cache: CacheRef) -> &KvPages {
        let pages = self.pages[usize::from(cache.cache)].get(usize::from(cache.layer)).and_then(Option::as_ref);
        pages.unwrap_or_else(|| panic!("{cache:?} is not in the model's table"))
    }
}
