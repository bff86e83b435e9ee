//! Reading one line from left to right, and the tree that indentation makes of lines.

use super::names::is_word_character;
use crate::diag::{Diagnostic, Place};
use crate::dim::{Dim, Expr};

/// A line, without its comment, and the lines indented below it.
#[derive(Debug, Clone)]
pub(super) struct Statement<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) children: Vec<Statement<'a>>,
}

/// The lines of a text as a tree.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let lines =
        text.lines().enumerate().map(|(index, line)| (index as u32 + 1, line, without_comment(line).trim_end()));
    let mut lines: Vec<_> = lines.filter(|(_, _, code)| !code.trim().is_empty()).collect();
    lines.reverse();
    let mut roots = Vec::new();
    while let Some(root) = statement(&mut lines) {
        roots.push(root);
    }
    roots
}

/// Takes the next line, and all that are indented deeper, off the end of `lines`.
fn statement<'a>(lines: &mut Vec<(u32, &'a str, &'a str)>) -> Option<Statement<'a>> {
    let (number, line, code) = lines.pop()?;
    let rest = code.trim_start();
    let indent = code.len() - rest.len();
    let mut children = Vec::new();
    while lines.last().is_some_and(|(_, _, next)| next.len() - next.trim_start().len() > indent) {
        children.extend(statement(lines));
    }
    Some(Statement { cursor: Cursor { line, number, rest }, children })
}

fn without_comment(line: &str) -> &str {
    let mut in_quotes = false;
    let mut is_escaped = false;
    for (offset, c) in line.char_indices() {
        if !in_quotes && line[offset..].starts_with("//") {
            return &line[..offset];
        }
        in_quotes ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
    }
    line
}

/// What is left of a line.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    line: &'a str,
    number: u32,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// Where a piece of the line stands.
    pub(super) fn place_of(&self, piece: &str) -> Place {
        let offset = (piece.as_ptr() as usize).saturating_sub(self.line.as_ptr() as usize).min(self.line.len());
        let column = self.line[..offset].chars().count() as u32 + 1;
        Place { line: self.number, column, width: piece.chars().count().max(1) as u32 }
    }

    /// Where the next character stands.
    pub(super) fn place(&self) -> Place {
        let next = self.rest.chars().next().map_or(0, char::len_utf8);
        self.place_of(&self.rest[..next])
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new("T0901", self.place(), message)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Diagnostic> {
        if self.is_at_end() { Ok(()) } else { Err(self.error("the line should end here")) }
    }

    /// Whether `sign` comes next; then it is behind.
    pub(super) fn accept(&mut self, sign: &str) -> bool {
        let rest = self.rest.strip_prefix(sign);
        if let Some(rest) = rest {
            self.rest = rest.trim_start();
        }
        rest.is_some()
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<(), Diagnostic> {
        if self.accept(sign) { Ok(()) } else { Err(self.error(format!("`{sign}` should stand here"))) }
    }

    pub(super) fn next_is_quote(&self) -> bool {
        self.rest.starts_with('"')
    }

    /// Whether a colon follows the next word.
    pub(super) fn has_colon_next(&self) -> bool {
        self.rest[self.peek().len()..].trim_start().starts_with(':')
    }

    pub(super) fn next_is_list(&self) -> bool {
        self.rest.starts_with('[')
    }

    /// The next word without taking it; empty if a sign comes next.
    pub(super) fn peek(&self) -> &'a str {
        let end = self.rest.find(|c| !is_word_character(c)).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    pub(super) fn word(&mut self) -> Result<&'a str, Diagnostic> {
        let word = self.peek();
        if word.is_empty() {
            return Err(self.error("a word should stand here"));
        }
        self.rest = self.rest[word.len()..].trim_start();
        Ok(word)
    }

    pub(super) fn keyword(&mut self, keyword: &str) -> Result<(), Diagnostic> {
        let is_next = self.peek() == keyword;
        if is_next { self.word().map(|_| ()) } else { Err(self.error(format!("`{keyword}` should stand here"))) }
    }

    /// A bare or quoted name.
    pub(super) fn name(&mut self) -> Result<String, Diagnostic> {
        if self.rest.starts_with('"') { self.string() } else { self.word().map(str::to_owned) }
    }

    /// A quoted string.
    pub(super) fn string(&mut self) -> Result<String, Diagnostic> {
        let body = self.rest.strip_prefix('"').ok_or_else(|| self.error("a quoted string should stand here"))?;
        let mut is_escaped = false;
        let end = body.find(|c| {
            let closes = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            closes
        });
        let end = end.ok_or_else(|| self.error("this string is not closed"))?;
        let quoted = &self.rest[..end + 2];
        let string = ron::from_str(quoted).map_err(|error| self.error(error.to_string()))?;
        self.rest = self.rest[end + 2..].trim_start();
        Ok(string)
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, Diagnostic> {
        let at = self.clone();
        let word = self.word()?;
        word.parse().map_err(|_| at.error(format!("`{word}` is not the number that should stand here")))
    }

    /// What stands before the next `,`, `)` or `]` that closes nothing in between.
    pub(super) fn item(&mut self) -> &'a str {
        let mut depth = 0;
        let end = self.rest.find(|c| match c {
            '(' | '[' => {
                depth += 1;
                false
            }
            ')' | ']' | ',' if depth == 0 => true,
            ')' | ']' => {
                depth -= 1;
                false
            }
            _ => false,
        });
        let item = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = self.rest[item.len()..].trim_start();
        item.trim_end()
    }

    /// A reader of a piece of this line.
    pub(super) fn inside(&self, piece: &'a str) -> Self {
        Self { rest: piece, ..*self }
    }

    /// All that is left of the line.
    pub(super) fn remainder(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn expr(&mut self) -> Result<Expr, Diagnostic> {
        let text = self.remainder();
        Expr::parse(text).map_err(|error| {
            let piece = text.get(error.offset..).unwrap_or(text);
            Diagnostic::new(
                "T0901",
                self.place_of(&piece[..piece.chars().next().map_or(0, char::len_utf8)]),
                error.message,
            )
        })
    }

    /// A size that ends where [`Self::item`] does.
    pub(super) fn dim(&mut self) -> Result<Dim, Diagnostic> {
        let at = self.clone();
        let text = self.item();
        let dim = Expr::parse(text).ok().and_then(|expr| expr.to_dim());
        dim.ok_or_else(|| Diagnostic::new("T0901", at.place_of(text), format!("`{text}` is not a size")))
    }

    /// `[a, b]`, each item read by `read`.
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Diagnostic>,
    ) -> Result<Vec<T>, Diagnostic> {
        self.expect("[")?;
        let mut items = Vec::new();
        while !self.accept("]") {
            items.push(read(self)?);
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(items)
    }
}
