//! Random histories of tables against a model that is small enough to be believed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{AuditError, Page, PagePool, PageTable};
use crate::executor::PageIndex;

const NUM_PAGES: usize = 12;
const PAGE_TOKENS: usize = 4;

#[derive(Debug, Clone)]
enum Operation {
    /// A new sequence of that many tokens.
    Start(usize),
    /// One of the sequences grows by so many tokens.
    Append { which: usize, num_tokens: usize },
    /// A new sequence begins with the tokens of another.
    Fork { which: usize, num_tokens: usize },
    /// A sequence ends, is cancelled or is preempted: to the pool it is all the same.
    Free { which: usize },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let which = 0..8usize;
    let operation = prop_oneof![
        (1..20usize).prop_map(Operation::Start),
        (which.clone(), 1..6usize).prop_map(|(which, num_tokens)| Operation::Append { which, num_tokens }),
        (which.clone(), 0..20usize).prop_map(|(which, num_tokens)| Operation::Fork { which, num_tokens }),
        which.prop_map(|which| Operation::Free { which }),
    ];
    prop::collection::vec(operation, 1..120)
}

/// The pool as arithmetic: owners by page, and each sequence's pages and length.
#[derive(Debug, Default)]
struct Model {
    owners: BTreeMap<PageIndex, usize>,
    sequences: Vec<(Vec<PageIndex>, usize)>,
}

impl Model {
    fn num_free(&self) -> usize {
        NUM_PAGES - self.owners.len()
    }

    fn missing(&self, which: usize, num_tokens: usize) -> usize {
        num_tokens.div_ceil(PAGE_TOKENS).saturating_sub(self.sequences[which].0.len())
    }

    fn own(&mut self, pages: &[PageIndex]) {
        for page in pages {
            *self.owners.entry(*page).or_default() += 1;
        }
    }

    fn free(&mut self, which: usize) {
        for page in self.sequences.remove(which).0 {
            let count = self.owners.get_mut(&page).expect("the model owns what it frees");
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&page);
            }
        }
    }
}

struct Bench {
    pool: PagePool,
    tables: Vec<PageTable>,
    model: Model,
}

impl Bench {
    fn new() -> Self {
        let pool = PagePool::new(NUM_PAGES, PAGE_TOKENS);
        Self { pool, tables: Vec::new(), model: Model::default() }
    }

    fn apply(&mut self, operation: &Operation) {
        let len = self.tables.len();
        match *operation {
            Operation::Start(num_tokens) => self.start(PageTable::default(), Vec::new(), num_tokens),
            Operation::Append { which, num_tokens } if which < len => {
                self.grow(which, self.model.sequences[which].1 + num_tokens);
            }
            Operation::Fork { which, num_tokens } if which < len => self.fork(which, num_tokens),
            Operation::Free { which } if which < len => {
                self.tables.remove(which);
                self.model.free(which);
            }
            _ => {}
        }
    }

    fn start(&mut self, table: PageTable, shared: Vec<PageIndex>, num_tokens: usize) {
        self.model.own(&shared);
        self.tables.push(table);
        let num_shared_tokens = shared.len() * PAGE_TOKENS;
        self.model.sequences.push((shared, num_shared_tokens));
        self.grow(self.tables.len() - 1, num_tokens);
    }

    fn fork(&mut self, which: usize, num_tokens: usize) {
        let num_tokens = num_tokens.min(self.model.sequences[which].1);
        let table = self.tables[which].fork(&self.pool, num_tokens);
        let shared = self.model.sequences[which].0[..num_tokens / PAGE_TOKENS].to_vec();
        self.start(table, shared, num_tokens);
    }

    /// Grows both sides, which must agree on whether there is room and on how much is taken.
    fn grow(&mut self, which: usize, num_tokens: usize) {
        let missing = self.model.missing(which, num_tokens);
        let fits = missing <= self.model.num_free();
        let table = &mut self.tables[which];
        assert_eq!(table.pages_needed(&self.pool, num_tokens), missing);
        assert_eq!(table.can_grow(&self.pool, num_tokens), fits);
        assert_eq!(table.grow(&self.pool, num_tokens).is_ok(), fits);
        if !fits {
            return;
        }
        let all: Vec<PageIndex> = table.pages().iter().map(Page::index).collect();
        let sequence = &mut self.model.sequences[which];
        let added = all[sequence.0.len()..].to_vec();
        assert_eq!(all[..sequence.0.len()], sequence.0, "pages that were there stay");
        assert_eq!(added.len(), missing);
        *sequence = (all, num_tokens);
        for page in &added {
            assert!(!self.model.owners.contains_key(page), "{page:?} has an owner already");
        }
        self.model.own(&added);
    }

    fn check(&self) -> Result<(), AuditError> {
        let census = self.pool.audit_owners(self.tables.iter().flat_map(PageTable::pages))?;
        assert_eq!(census.num_free, self.model.num_free());
        assert_eq!(census.num_free + census.num_in_use, NUM_PAGES);
        for page in self.tables.iter().flat_map(PageTable::pages) {
            assert_eq!(page.num_owners(), self.model.owners[&page.index()]);
        }
        self.writable_pages_have_one_owner();
        Ok(())
    }

    /// The page that a sequence writes next is the one its length ends in.
    fn writable_pages_have_one_owner(&self) {
        for (table, (_, len)) in self.tables.iter().zip(&self.model.sequences) {
            if len % PAGE_TOKENS != 0 {
                assert!(table.pages()[len / PAGE_TOKENS].is_exclusive());
            }
        }
    }
}

proptest! {
    #[test]
    fn no_history_leaks_or_frees_twice(operations in operations()) {
        let mut bench = Bench::new();
        for operation in &operations {
            bench.apply(operation);
            bench.check()?;
        }
        bench.tables.clear();
        prop_assert_eq!(bench.pool.audit()?.num_free, NUM_PAGES);
    }
}

#[test]
fn a_refused_allocation_takes_nothing() {
    let pool = PagePool::new(3, PAGE_TOKENS);
    let held = pool.allocate(2).unwrap();
    assert!(!pool.can_allocate(2));
    assert!(pool.allocate(2).is_err());
    assert_eq!(pool.census().num_free, 1);
    drop(held);
    assert!(pool.can_allocate(3));
}

#[test]
fn a_page_outlives_the_first_of_its_owners() {
    let pool = PagePool::new(1, PAGE_TOKENS);
    let first = pool.allocate(1).unwrap().remove(0);
    let second = first.share();
    assert!(!first.is_exclusive());
    drop(first);
    assert!(second.is_exclusive());
    assert!(!pool.can_allocate(1));
    drop(second);
    assert!(pool.can_allocate(1));
}
