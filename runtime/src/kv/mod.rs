//! Who owns which page of the KV cache.
//!
//! The pool counts; it holds no keys or values, which live on the device at the page's index. A [`Page`] is one
//! owner's claim: it cannot be copied, and dropping it gives the claim back, so a page can be neither freed twice nor
//! forgotten, whichever way its owner ends: by a stop, a cancellation, a preemption or a fault. Sharing is explicit
//! ([`Page::share`]) and counted. Only a page with one owner may be written.
//!
//! What must hold at every moment, and [`PagePool::audit`] checks: free and owned pages add up to the pool, no page is
//! free twice, no free page has an owner, and no owned page is free.

pub use pool::{AuditError, Census, OutOfPages, Page, PagePool};
pub use table::PageTable;

mod pool;
mod table;
#[cfg(test)]
mod tests;
