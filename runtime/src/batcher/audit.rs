//! The invariants of the batcher, checked by walking over everything it holds.

use std::collections::BTreeSet;

use super::Batcher;
use crate::executor::Slot;
use crate::kv::{self, Census};
use crate::sequence::{Running, Sequence, SequenceId};

/// An invariant of the batcher that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The pages.
    #[error(transparent)]
    Pages(#[from] kv::AuditError),
    /// A slot is free twice, or has two sequences, or both.
    #[error("{0:?} is in two places")]
    SlotTwice(Slot),
    /// Some slots are nowhere.
    #[error("{found} of {total} slots found")]
    SlotsLost {
        /// Slots that are free, of a running sequence, or of an ended one in flight.
        found: usize,
        /// Slots there are.
        total: usize,
    },
    /// A sequence stands before an older one.
    #[error("{0} is out of order")]
    OutOfOrder(SequenceId),
}

impl Batcher {
    /// Checks every invariant, in time linear in pages, slots and sequences.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn audit(&self) -> Result<Census, AuditError> {
        self.audit_slots()?;
        self.audit_order()?;
        Ok(self.pool.audit_owners(self.pages())?)
    }

    fn audit_slots(&self) -> Result<(), AuditError> {
        let retired = self.in_flight.iter().flat_map(|step| &step.retired);
        let held = self.running.iter().chain(retired).map(Running::slot);
        let mut slots = BTreeSet::new();
        for slot in held.chain(self.free_slots.iter().copied()) {
            if !slots.insert(slot) {
                return Err(AuditError::SlotTwice(slot));
            }
        }
        if slots.len() != self.max_num_seqs {
            let (found, total) = (slots.len(), self.max_num_seqs);
            return Err(AuditError::SlotsLost { found, total });
        }
        Ok(())
    }

    fn audit_order(&self) -> Result<(), AuditError> {
        let running = self.running.iter().map(Running::id);
        let ids: Vec<_> = running.chain(self.waiting.iter().map(Sequence::id)).collect();
        match ids.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(AuditError::OutOfOrder(pair[1])),
            None => Ok(()),
        }
    }
}
