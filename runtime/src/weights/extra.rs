//! Names of many tensors, made short.

use std::collections::{BTreeMap, BTreeSet};

/// Tensors whose names differ in numbers alone, as one name and how many there are, in order of the names:
/// `layers.{0..31}.norm.weight`, of 32 tensors.
pub fn grouped<'a>(tensors: impl IntoIterator<Item = &'a str>) -> Vec<(String, usize)> {
    // By the name's parts, numbers left out; of each, the numbers that stand there.
    let mut kinds: BTreeMap<Vec<Option<&str>>, Vec<Vec<u64>>> = BTreeMap::new();
    for tensor in tensors {
        let parts: Vec<_> = tensor.split('.').map(|part| (part, number(part))).collect();
        let kind = parts.iter().map(|(part, number)| number.is_none().then_some(*part)).collect();
        kinds.entry(kind).or_default().push(parts.iter().filter_map(|(_, number)| *number).collect());
    }
    kinds.iter().flat_map(|(kind, numbers)| groups(kind, numbers)).collect()
}

/// The number that a part of a name is, if it can be written back as it was.
fn number(part: &str) -> Option<u64> {
    part.parse().ok().filter(|number: &u64| number.to_string() == part)
}

/// One group if all numbers at one place go with all at the others, else one for each number at the first place.
fn groups(kind: &[Option<&str>], numbers: &[Vec<u64>]) -> Vec<(String, usize)> {
    let num_places = numbers.first().map_or(0, Vec::len);
    let at = |place: usize| -> BTreeSet<u64> { numbers.iter().map(|own| own[place]).collect() };
    let places: Vec<_> = (0..num_places).map(at).collect();
    if places.iter().map(BTreeSet::len).product::<usize>() == numbers.len() {
        return vec![(name(kind, &places), numbers.len())];
    }
    let uneven = places.iter().find(|numbers| numbers.len() > 1).into_iter().flatten();
    let place = places.iter().position(|numbers| numbers.len() > 1).unwrap_or(0);
    let of = |number: u64| numbers.iter().filter(|own| own[place] == number).cloned().collect::<Vec<_>>();
    uneven.flat_map(|number| groups(kind, &of(*number))).collect()
}

fn name(kind: &[Option<&str>], places: &[BTreeSet<u64>]) -> String {
    let mut places = places.iter();
    let part = |part: &Option<&str>| match part {
        Some(part) => (*part).to_owned(),
        None => places.next().map(ranges).unwrap_or_default(),
    };
    kind.iter().map(part).collect::<Vec<_>>().join(".")
}

/// `7`, `{0..31}` or `{0..3,5,7..9}`.
fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { format!("{first}") } else { format!("{first}..{last}") };
    let all = ranges.iter().map(text).collect::<Vec<_>>().join(",");
    if numbers.len() == 1 { all } else { format!("{{{all}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[&str]) -> Vec<(String, usize)> {
        grouped(tensors.iter().copied())
    }

    fn group(name: &str, count: usize) -> (String, usize) {
        (name.to_owned(), count)
    }

    #[test]
    fn names_that_differ_in_numbers_are_one() {
        assert_eq!(of(&[]), []);
        assert_eq!(of(&["norm.weight"]), [group("norm.weight", 1)]);
        assert_eq!(of(&["l.3.q"]), [group("l.3.q", 1)]);
        assert_eq!(of(&["l.0.q", "l.1.q", "l.10.q", "l.2.k"]), [group("l.2.k", 1), group("l.{0..1,10}.q", 3)]);
        assert_eq!(of(&["l.01.q", "l.1.q", "l1.q"]), [group("l.1.q", 1), group("l.01.q", 1), group("l1.q", 1)]);
    }

    #[test]
    fn several_numbers_are_one_where_all_go_with_all() {
        let all = ["l.0.e.0.w", "l.0.e.1.w", "l.2.e.0.w", "l.2.e.1.w"];
        assert_eq!(of(&all), [group("l.{0,2}.e.{0..1}.w", 4)]);
        assert_eq!(of(&all[..3]), [group("l.0.e.{0..1}.w", 2), group("l.2.e.0.w", 1)]);
    }
}
