//! Published numbers beside ours.

use crate::table::{Table, fixed, wrap};

/// A published number and ours, with the row and column of the table that they stand in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    /// What the row is about.
    pub(super) row: String,
    /// What the column is about.
    pub(super) column: String,
    /// The published number.
    pub(super) published: f64,
    /// Ours.
    pub(super) ours: f64,
    /// How many decimals were printed.
    pub(super) decimals: usize,
}

impl Comparison {
    /// What is compared.
    pub(super) fn what(&self) -> String {
        format!("{}, {}", self.row, self.column)
    }

    /// How far ours is off, as a share of the published number.
    pub(super) fn error(&self) -> f64 {
        if self.published == self.ours { 0.0 } else { self.ours / self.published - 1.0 }
    }

    /// Whether ours is what rounding the published number can hide: half a unit of its last digit.
    pub(super) fn is_within_print(&self) -> bool {
        // A number that ends in 5 may have been rounded either way.
        (self.ours - self.published).abs() <= 0.500_001 * 10f64.powi(-(self.decimals as i32))
    }

    /// Whether ours is off by no more than this share, or within what rounding can hide.
    pub(super) fn is_within(&self, share: f64) -> bool {
        self.error().abs() <= share || self.is_within_print()
    }

    fn cell(&self) -> String {
        format!("{} ({})", fixed(self.ours, self.decimals), fixed(self.published, self.decimals))
    }
}

/// A table with a column per distinct column and a row per distinct row, in the order in which they first appear.
pub(super) fn grid(corner: &str, comparisons: &[Comparison]) -> String {
    let columns = distinct(comparisons.iter().map(|comparison| comparison.column.as_str()));
    let mut table = Table::new([corner].into_iter().chain(columns.iter().copied()));
    for row in distinct(comparisons.iter().map(|comparison| comparison.row.as_str())) {
        let at = |column: &&str| comparisons.iter().find(|found| found.row == row && found.column == *column);
        let cells = columns.iter().map(|column| at(column).map(Comparison::cell).unwrap_or_default());
        table.rows.push(std::iter::once(row.to_owned()).chain(cells).collect());
    }
    table.markdown()
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = vec![];
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// How many of ours are within a share of what was published, and which is the farthest off.
pub(super) fn summary(comparisons: &[Comparison], share: f64) -> String {
    let count = |is: &dyn Fn(&Comparison) -> bool| comparisons.iter().filter(|comparison| is(comparison)).count();
    let (all, percent) = (comparisons.len(), share * 100.0);
    let within = count(&|comparison| comparison.is_within(share));
    let printed = count(&Comparison::is_within_print);
    let others = comparisons.iter().filter(|comparison| !comparison.is_within_print());
    let worst = others.max_by(|a, b| a.error().abs().total_cmp(&b.error().abs()));
    let farthest =
        worst.map(|worst| format!(" The farthest off is {}, by {:+.1} %.", worst.what(), worst.error() * 100.0));
    wrap(&format!(
        "{within} of {all} cells are within {percent} % or half a unit of the last printed digit, {printed} of them \
         within the latter.{}",
        farthest.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(published: f64, ours: f64) -> Comparison {
        Comparison { row: "r".into(), column: "c".into(), published, ours, decimals: 2 }
    }

    #[test]
    fn rounding_is_no_error() {
        assert!(comparison(0.07, 0.0652).is_within_print());
        assert!(!comparison(0.07, 0.0648).is_within_print());
        assert!(comparison(10.0, 10.15).is_within(0.02));
        assert!(!comparison(10.0, 10.25).is_within(0.02));
        assert_eq!(comparison(0.0, 0.0).error(), 0.0);
    }

    #[test]
    fn the_farthest_off_is_named() {
        let text = summary(&[comparison(1.0, 1.001), comparison(1.0, 1.1), comparison(1.0, 0.95)], 0.06);
        assert!(text.starts_with("2 of 3 cells are within 6 % or half a unit"), "{text}");
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(words.join(" ").ends_with("The farthest off is r, c, by +10.0 %."), "{text}");
    }
}
