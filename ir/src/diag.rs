//! What is wrong, where, and what to do: the one form in which every room of the compiler reports a mistake.
//!
//! A diagnostic carries a code (`T0203`), a place in the file it is about, a sentence, and a help line. All mistakes
//! of a file are collected before any is shown. [`Diagnostic::render`] draws the place with a caret:
//!
//! ```text
//! error[T0203]: there is no value `n9`
//!   --> graphs/llama.ron:31:34
//!    |
//! 31 |                 "q":    Linear(x: "n9", weight: "self_attn.q_proj", out: "heads * head"),
//!    |                                    ^^
//!    = help: did you mean `n1`?
//! ```

use std::fmt::Write;

/// Where in a source file something stands. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line, 0 where no line is known.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Number of columns, at least 1.
    pub width: u32,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, documented where it is raised.
    pub code: &'static str,
    /// Where it stands, if it is about a place in the source.
    pub place: Place,
    /// What is wrong, naming the values involved; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { code, place, message: message.into(), help: None }
    }

    /// With a line that says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The mistake as text, with the guilty line of `source` under it.
    pub fn render(&self, file: &str, source: &str) -> String {
        let mut text = format!("error[{}]: {}\n", self.code, self.message);
        let line = (self.place.line as usize).checked_sub(1).and_then(|line| source.lines().nth(line));
        if let Some(line) = line {
            self.render_line(&mut text, file, line);
        } else {
            let _ = writeln!(text, "  --> {file}");
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "   = help: {help}");
        }
        text
    }

    fn render_line(&self, text: &mut String, file: &str, line: &str) {
        let Place { line: number, column, width } = self.place;
        let margin = " ".repeat(number.to_string().len());
        let indent = " ".repeat((column as usize).saturating_sub(1));
        let caret = "^".repeat((width as usize).max(1));
        let _ = writeln!(text, "{margin}--> {file}:{number}:{column}");
        let _ = writeln!(text, "{margin} |\n{number} | {line}\n{margin} | {indent}{caret}");
    }
}

/// All of `mistakes` as text, in the order of their places, with a count at the end.
pub fn render_all(mistakes: &[Diagnostic], file: &str, source: &str) -> String {
    let mut ordered: Vec<_> = mistakes.iter().collect();
    ordered.sort_by_key(|mistake| mistake.place);
    let mut text: String = ordered.iter().map(|mistake| mistake.render(file, source) + "\n").collect();
    let count = ordered.len();
    let _ = writeln!(text, "{count} mistake{} in {file}", if count == 1 { "" } else { "s" });
    text
}

/// The candidate that `found` was probably meant to be: one that differs by a slip or two, or that it abbreviates or is
/// abbreviated by.
pub fn meant<'c>(found: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let most = match found.chars().count() {
        0 | 1 => 0,
        length => (length / 3).max(1),
    };
    let key = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(found, candidate);
        (distance, candidate.len().abs_diff(found.len()))
    };
    let near =
        candidates.iter().copied().filter(|candidate| key(candidate).0 <= most).min_by_key(|candidate| key(candidate));
    let abbreviated = candidates.iter().copied().filter(|candidate| abbreviates(found, candidate));
    near.or_else(|| abbreviated.min_by_key(|candidate| key(candidate).1))
}

fn abbreviates(a: &str, b: &str) -> bool {
    a.len().min(b.len()) > 1 && (a.starts_with(b) || b.starts_with(a))
}
