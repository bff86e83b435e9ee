//! Which plan a step of some rows runs by.

use crate::launch::StepRows;

/// The mix of rows a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suits {
    /// At least this many rows in all.
    pub min_tokens: u32,
    /// At least this many decode rows.
    pub min_decode: u32,
    /// At most this many rows in all; `None` for any number.
    pub max_tokens: Option<u32>,
    /// At most this many decode rows; `None` for any number.
    pub max_decode: Option<u32>,
}

impl Suits {
    /// Whether the plan is made for a step of these rows.
    pub fn has(&self, rows: StepRows) -> bool {
        let within =
            |count: u32, least: u32, most: Option<u32>| count >= least && most.is_none_or(|most| count <= most);
        within(rows.tokens, self.min_tokens, self.max_tokens) && within(rows.decode, self.min_decode, self.max_decode)
    }
}

/// The number of the plan for these rows: the last that suits them, and the first, sequential one where none does. It
/// depends on the plans and the rows alone, so that equal steps run equally.
pub fn choose(plans: impl DoubleEndedIterator<Item = Suits> + ExactSizeIterator, rows: StepRows) -> usize {
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
}
