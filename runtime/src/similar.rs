//! Whom a caller meant by a name that is not known.

/// Least likeness, of 1, of a name that is worth suggesting.
const ALIKE: f64 = 0.65;

/// The name spelled most like `found`, if one is alike enough to be meant.
pub(crate) fn most_similar<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(found, name), name));
    let best = scored.filter(|(likeness, _)| *likeness >= ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, name)| name)
}
