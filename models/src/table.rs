//! Tables for terminals and for Markdown, numbers as tables show them, and text in lines.

/// Cells under headings. The first column is of words, the others are of numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The headings.
    pub(crate) headings: Vec<String>,
    /// The rows, each with a cell per heading.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: vec![] }
    }

    /// Lines whose columns stand below each other.
    pub(crate) fn text(&self) -> String {
        let widths = self.widths();
        let lines = std::iter::once(&self.headings).chain(&self.rows);
        lines.map(|cells| pad(cells, &widths).join("  ").trim_end().to_owned() + "\n").collect()
    }

    /// The same in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| format!("| {} |\n", pad(cells, &widths).join(" | "));
        let rule = widths.iter().enumerate().map(|(column, width)| match column {
            0 => "-".repeat(*width),
            _ => "-".repeat(width.saturating_sub(1)) + ":",
        });
        let rule: Vec<_> = rule.collect();
        let rows: String = self.rows.iter().map(|cells| line(cells)).collect();
        line(&self.headings) + &line(&rule) + &rows
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.headings]).filter_map(|cells| cells.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        (0..self.headings.len()).map(width).collect()
    }
}

fn pad(cells: &[String], widths: &[usize]) -> Vec<String> {
    let cell = |(column, (cell, width)): (usize, (&String, &usize))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    };
    cells.iter().zip(widths).enumerate().map(cell).collect()
}

/// A number with four digits that count, such as `27,488`, `462.2` and `0.01335`; a whole one as it is.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    if size.fract() == 0.0 {
        return fixed(value, 0);
    }
    if size < 1e-4 {
        return format!("{value:.1e}");
    }
    let before_point = size.log10().floor() as i32 + 1;
    fixed(value, usize::try_from(4 - before_point).unwrap_or(0))
}

/// A number with so many decimals, and a comma between thousands.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut spaced = String::new();
    for (index, digit) in whole.char_indices() {
        let is_thousand = (whole.len() - index).is_multiple_of(3) && index > 0 && !spaced.ends_with('-');
        spaced.extend(is_thousand.then_some(','));
        spaced.push(digit);
    }
    spaced + rest
}

/// A whole number, with a comma between thousands.
pub(crate) fn whole(value: f64) -> String {
    fixed(value.floor(), 0)
}

/// Text in lines of at most 120 characters, broken at spaces.
pub(crate) fn wrap(text: &str) -> String {
    const WIDTH: usize = 120;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_counts() {
        let shown = [27_487.8, 1_234_567.8, 462.24, 512.0, 1.2215, 0.013_351, 0.0, 1e-7].map(digits);
        assert_eq!(shown, ["27,488", "1,234,568", "462.2", "512", "1.222", "0.01335", "0", "1.0e-7"]);
        assert_eq!(fixed(-1234.5, 1), "-1,234.5");
        assert_eq!(fixed(-123.0, 0), "-123");
        assert_eq!(whole(999.9), "999");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("a  b\nc"), "a b c\n");
        let text = wrap(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        assert_eq!(text.split_whitespace().count(), 50);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(["what", "n"]);
        table.rows.push(vec!["a".into(), "1,000".into()]);
        assert_eq!(table.text(), "what      n\na     1,000\n");
        assert_eq!(table.markdown(), "| what |     n |\n| ---- | ----: |\n| a    | 1,000 |\n");
    }
}
