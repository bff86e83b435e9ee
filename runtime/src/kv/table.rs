//! The pages of one sequence, in the order of its positions.

use super::pool::{OutOfPages, Page, PagePool};
use crate::executor::PageIndex;

/// A sequence's pages: position `p` is at offset `p % page_tokens` of page `p / page_tokens`.
#[derive(Debug, Default)]
pub struct PageTable {
    pages: Vec<Page>,
}

impl PageTable {
    /// Pages to add so that the table covers `num_tokens` positions.
    pub fn pages_needed(&self, pool: &PagePool, num_tokens: usize) -> usize {
        pool.pages_for(num_tokens).saturating_sub(self.pages.len())
    }

    /// Whether [`PageTable::grow`] would succeed.
    pub fn can_grow(&self, pool: &PagePool, num_tokens: usize) -> bool {
        pool.can_allocate(self.pages_needed(pool, num_tokens))
    }

    /// Adds pages until the table covers `num_tokens` positions. Never shrinks.
    ///
    /// # Errors
    /// When the pool has too few; then the table is as it was.
    pub fn grow(&mut self, pool: &PagePool, num_tokens: usize) -> Result<(), OutOfPages> {
        let added = pool.allocate(self.pages_needed(pool, num_tokens))?;
        self.pages.extend(added);
        Ok(())
    }

    /// A table that shares the pages which the first `num_tokens` positions fill to the end. A page that they fill in
    /// part is left out: both sequences would go on writing it.
    pub fn fork(&self, pool: &PagePool, num_tokens: usize) -> Self {
        let num_full = num_tokens / pool.page_tokens();
        Self { pages: self.pages.iter().take(num_full).map(Page::share).collect() }
    }

    /// The places of the pages that cover the first `num_tokens` positions.
    pub fn indices(&self, pool: &PagePool, num_tokens: usize) -> Vec<PageIndex> {
        self.pages.iter().take(pool.pages_for(num_tokens)).map(Page::index).collect()
    }

    /// The pages, in order.
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Positions that the table covers.
    pub fn num_tokens(&self, pool: &PagePool) -> usize {
        self.pages.len() * pool.page_tokens()
    }
}
