//! Which plan a step runs by.
//!
//! Of the plans made for this device, the last that suits the step's rows; the first, sequential one where none does.
//! The choice depends on the plans and the rows alone, so that equal steps run equally.

use crate::device::cpu::CpuDevice;
use crate::launch::StepRows;
use crate::model::{CompiledPlan, Suits};

/// The plans that the processor runs: those for any device, and those for a profile of a processor.
pub(super) fn usable(plans: &'static [CompiledPlan<CpuDevice>]) -> Vec<&'static CompiledPlan<CpuDevice>> {
    plans.iter().filter(|plan| runs_here(plan.device)).collect()
}

/// Whether a plan for this profile runs on the processor: the names of processors' profiles begin with `cpu`.
pub(super) fn runs_here(device: Option<&str>) -> bool {
    device.is_none_or(|profile| profile.starts_with(CpuDevice::KIND))
}

/// The number of the plan for these rows, the plans given by what they suit.
pub(super) fn choose(plans: impl DoubleEndedIterator<Item = Suits> + ExactSizeIterator, rows: StepRows) -> usize {
    plans.into_iter().rposition(|suits| suits.has(rows)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a plan may ask for, in small numbers.
    fn all_suits() -> Vec<Suits> {
        let bounds = || [None, Some(0), Some(3), Some(5)].into_iter();
        let tokens = bounds().flat_map(|max_tokens| [0, 1, 4].map(|min_tokens| (min_tokens, max_tokens)));
        let decode = |(min_tokens, max_tokens)| {
            let decode = bounds().flat_map(|max_decode| [0, 2].map(|min_decode| (min_decode, max_decode)));
            decode.map(move |(min_decode, max_decode)| Suits { min_tokens, min_decode, max_tokens, max_decode })
        };
        tokens.flat_map(decode).collect()
    }

    fn all_rows() -> impl Iterator<Item = StepRows> {
        (0..7).flat_map(|tokens| (0..=tokens).map(move |decode| StepRows { tokens, decode, seqs: 1 }))
    }

    #[test]
    fn every_step_has_one_plan_and_it_is_the_last_that_suits() {
        let all = all_suits();
        let sequential = Suits::default();
        for pair in all.iter().flat_map(|one| all.iter().map(move |other| [sequential, *one, *other])) {
            for rows in all_rows() {
                let chosen = choose(pair.iter().copied(), rows);
                assert!(pair[chosen].has(rows), "{pair:?} at {rows:?}: {chosen}");
                assert!(pair[chosen + 1..].iter().all(|later| !later.has(rows)), "{pair:?} at {rows:?}: {chosen}");
            }
        }
    }

    #[test]
    fn plans_that_do_not_suit_change_nothing() {
        for suits in all_suits() {
            for rows in all_rows().filter(|rows| !suits.has(*rows)) {
                assert_eq!(choose([Suits::default(), suits].into_iter(), rows), 0, "{suits:?} at {rows:?}");
                assert_eq!(choose([suits, suits].into_iter(), rows), 0, "without a plan that suits, the first");
            }
        }
    }

    #[test]
    fn bounds_are_within() {
        let suits = Suits { min_tokens: 2, min_decode: 1, max_tokens: Some(4), max_decode: Some(2) };
        let within = |tokens, decode| suits.has(StepRows { tokens, decode, seqs: 0 });
        assert_eq!([within(2, 1), within(4, 2)], [true; 2]);
        assert_eq!([within(1, 1), within(5, 2), within(4, 0), within(4, 3)], [false; 4]);
    }

    #[test]
    fn profiles_of_processors_begin_with_cpu() {
        assert_eq!([None, Some("cpu"), Some("cpu-local")].map(runs_here), [true; 3]);
        assert_eq!([Some("h200-141g"), Some("gaudi2"), Some("")].map(runs_here), [false; 3]);
    }
}
