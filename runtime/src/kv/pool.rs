//! The pool of pages, and the claim on one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::executor::PageIndex;

/// The pages of one cache. Allocation and release take constant time.
#[derive(Debug)]
pub struct PagePool {
    page_tokens: usize,
    ledger: Arc<Ledger>,
}

/// One owner's claim on a page; dropping it is how a page is freed.
#[derive(Debug)]
pub struct Page {
    index: PageIndex,
    ledger: Arc<Ledger>,
}

/// How many pages are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Pages without an owner.
    pub num_free: usize,
    /// Pages with at least one owner.
    pub num_in_use: usize,
    /// All pages.
    pub num_total: usize,
}

/// The pool has fewer free pages than were asked for; nothing was allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{num_needed} KV pages needed, {num_free} free")]
pub struct OutOfPages {
    /// Pages asked for.
    pub num_needed: usize,
    /// Pages there were.
    pub num_free: usize,
}

/// An invariant of the pool that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A page is in the free list twice.
    #[error("{0:?} is free twice")]
    FreeTwice(PageIndex),
    /// A page is in the free list and has owners.
    #[error("{0:?} is free, yet has owners")]
    FreeAndOwned(PageIndex),
    /// A page is nowhere.
    #[error("{0:?} has no owner and is not free")]
    Lost(PageIndex),
    /// The count of a page is not the number of claims that were found.
    #[error("{page:?} counts {counted} owners, {found} were found")]
    Miscounted {
        /// The page.
        page: PageIndex,
        /// What the pool says.
        counted: u32,
        /// What a walk over the owners says.
        found: u32,
    },
}

#[derive(Debug)]
struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    /// A stack: the page freed last is used first, while caches still know it.
    free: Vec<PageIndex>,
    /// Number of claims, by page.
    owners: Vec<u32>,
}

impl PagePool {
    /// A pool of free pages of `page_tokens` positions each; no more of them than a page index can name.
    ///
    /// # Panics
    /// If `page_tokens` is zero.
    pub fn new(num_pages: usize, page_tokens: usize) -> Self {
        assert!(page_tokens > 0, "a page holds at least one token");
        let num_pages = u32::try_from(num_pages).unwrap_or(u32::MAX);
        let free = (0..num_pages).rev().map(PageIndex).collect();
        let owners = vec![0; num_pages as usize];
        let entries = Mutex::new(Entries { free, owners });
        Self { page_tokens, ledger: Arc::new(Ledger { entries }) }
    }

    /// Positions of one page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Pages that hold `num_tokens` positions.
    pub fn pages_for(&self, num_tokens: usize) -> usize {
        num_tokens.div_ceil(self.page_tokens)
    }

    /// Whether that many pages are free.
    pub fn can_allocate(&self, num_pages: usize) -> bool {
        self.ledger.lock().free.len() >= num_pages
    }

    /// Claims that many pages.
    ///
    /// # Errors
    /// When there are fewer; then none is claimed.
    pub fn allocate(&self, num_pages: usize) -> Result<Vec<Page>, OutOfPages> {
        let mut entries = self.ledger.lock();
        let num_free = entries.free.len();
        let left = num_free.checked_sub(num_pages).ok_or(OutOfPages { num_needed: num_pages, num_free })?;
        let taken = entries.free.split_off(left);
        Ok(taken.into_iter().rev().map(|index| self.claim(&mut entries, index)).collect())
    }

    /// Counts the pages.
    pub fn census(&self) -> Census {
        let entries = self.ledger.lock();
        let (num_free, num_total) = (entries.free.len(), entries.owners.len());
        Census { num_free, num_in_use: num_total - num_free, num_total }
    }

    /// Checks the pool against itself, in time linear in the pool.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn audit(&self) -> Result<Census, AuditError> {
        self.ledger.lock().audit()?;
        Ok(self.census())
    }

    /// Checks the pool against a walk over every claim there is.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn audit_owners<'a>(&self, claims: impl IntoIterator<Item = &'a Page>) -> Result<Census, AuditError> {
        let mut found: BTreeMap<PageIndex, u32> = BTreeMap::new();
        for claim in claims {
            *found.entry(claim.index).or_default() += 1;
        }
        let entries = self.ledger.lock();
        for (page, &counted) in entries.pages() {
            let found = found.get(&page).copied().unwrap_or(0);
            if counted != found {
                return Err(AuditError::Miscounted { page, counted, found });
            }
        }
        drop(entries);
        self.audit()
    }

    fn claim(&self, entries: &mut Entries, index: PageIndex) -> Page {
        entries.add_owner(index);
        Page { index, ledger: Arc::clone(&self.ledger) }
    }
}

impl Page {
    /// Where it is on the device.
    pub fn index(&self) -> PageIndex {
        self.index
    }

    /// A second claim on the same page. From now on neither owner may write it.
    pub fn share(&self) -> Self {
        self.ledger.lock().add_owner(self.index);
        Self { index: self.index, ledger: Arc::clone(&self.ledger) }
    }

    /// How many claims there are.
    pub fn num_owners(&self) -> usize {
        self.ledger.lock().owners[self.index.0 as usize] as usize
    }

    /// Whether this is the only claim, so that its owner may write.
    pub fn is_exclusive(&self) -> bool {
        self.num_owners() == 1
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.ledger.lock().remove_owner(self.index);
    }
}

impl Ledger {
    /// No operation under the lock can stop half-way, so the entries of a poisoned lock are whole.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn add_owner(&mut self, page: PageIndex) {
        self.owners[page.0 as usize] += 1;
    }

    fn remove_owner(&mut self, page: PageIndex) {
        let owners = &mut self.owners[page.0 as usize];
        // One compare, in release builds too: a count below zero would hand one page to two sequences.
        assert!(*owners > 0, "{page:?} was freed twice");
        *owners -= 1;
        if *owners == 0 {
            self.free.push(page);
        }
    }

    fn pages(&self) -> impl Iterator<Item = (PageIndex, &u32)> {
        (0..).map(PageIndex).zip(&self.owners)
    }

    fn audit(&self) -> Result<(), AuditError> {
        let mut is_free = vec![false; self.owners.len()];
        for &page in &self.free {
            if std::mem::replace(&mut is_free[page.0 as usize], true) {
                return Err(AuditError::FreeTwice(page));
            }
        }
        self.pages().zip(is_free).try_for_each(|((page, &owners), free)| match (owners, free) {
            (0, false) => Err(AuditError::Lost(page)),
            (1.., true) => Err(AuditError::FreeAndOwned(page)),
            (0, true) | (1.., false) => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut Entries)) -> Result<Census, AuditError> {
        let pool = PagePool::new(4, 2);
        change(&mut pool.ledger.lock());
        pool.audit()
    }

    #[test]
    fn the_audit_sees_each_broken_invariant() {
        let last = PageIndex(3);
        assert_eq!(broken(|entries| entries.free.push(last)), Err(AuditError::FreeTwice(last)));
        assert_eq!(broken(|entries| entries.owners[3] = 1), Err(AuditError::FreeAndOwned(last)));
        assert_eq!(broken(|entries| entries.free.retain(|p| *p != last)), Err(AuditError::Lost(last)));
        assert!(broken(|_| ()).is_ok());
    }

    #[test]
    fn the_audit_of_owners_sees_a_claim_that_nobody_holds() {
        let pool = PagePool::new(2, 2);
        let pages = pool.allocate(1).unwrap();
        let page = pages[0].index();
        let miscounted = AuditError::Miscounted { page, counted: 1, found: 0 };
        assert_eq!(pool.audit_owners([]), Err(miscounted));
        assert!(pool.audit_owners(&pages).is_ok());
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_second_release_is_impossible_to_miss() {
        let pool = PagePool::new(1, 1);
        let page = pool.allocate(1).unwrap().remove(0);
        let twin = Page { index: page.index, ledger: Arc::clone(&page.ledger) };
        drop(page);
        drop(twin);
    }
}
